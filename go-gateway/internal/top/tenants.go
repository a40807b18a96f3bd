package top

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"triptych.dev/gateway/internal/adminapi"
)

// drawTenants has a row for each tenant, as many as there is room for before a row, the selected one among them.
func drawTenants(g *grid, p *Picture, s *State, rows []tenant, y, end int) {
	columns := tenantColumns(g.width)
	for _, c := range columns {
		name := c.name
		if c.by == s.Sort {
			if descends := c.by != byName && c.by != byPlan; descends != s.Reverse {
				name += "▼"
			} else {
				name += "▲"
			}
		}
		if c.isText {
			g.put(c.x, y, plain, name)
		} else {
			g.putRight(c.x+c.width, y, plain, name)
		}
	}
	drawHeading(g, y)
	for _, c := range columns {
		if c.by == s.Sort {
			for x := c.x - 1; x < c.x+c.width; x++ {
				g.cells[y*g.width+x].style &^= dim
			}
		}
	}
	y++
	if len(rows) == 0 {
		g.put(1, y, dim, "nobody has asked for anything yet")
		return
	}
	more := p.Now.MoreTenants
	room := end - y
	if len(rows) > room || more > 0 {
		room-- // for the line that says so
	}
	selected := s.index(rows)
	first := min(max(selected-room+1, 0), max(len(rows)-room, 0))
	if s.Selected == "" {
		first = 0
	}
	shown := rows[first:min(first+max(room, 0), len(rows))]
	for i, row := range shown {
		for _, c := range columns {
			c.draw(g, row, y)
		}
		if first+i == selected {
			g.add(0, g.width, y, invert)
			g.put(0, y, invert, "›")
		}
		y++
	}
	if hidden := len(rows) - len(shown) + more; hidden > 0 && y < end {
		g.put(1, y, dim, fmt.Sprintf("and %d more", hidden))
	}
}

// tenantColumn is one of the table of tenants.
type tenantColumn struct {
	by       column
	name     string
	x, width int
	isText   bool
	draw     func(g *grid, row tenant, y int)
}

// tenantColumns are those for a screen of a width: what is left of it goes to names, and to the nearest limit.
func tenantColumns(width int) []tenantColumn {
	const numbers = 7 + 7 + 6 + 6 + 8 // with their gaps
	spare := width - 2 - numbers - 2
	plan := min(max(spare/6, 6), 20)
	name := min(max((spare-plan)*2/5, 10), 40)
	nearest := spare - plan - name

	x := 1
	columns := make([]tenantColumn, 0, len(shownColumns))
	add := func(by column, heading string, width, gap int, isText bool, draw func(c tenantColumn, g *grid, row tenant, y int)) {
		c := tenantColumn{by: by, name: heading, x: x, width: width, isText: isText}
		c.draw = func(g *grid, row tenant, y int) { draw(c, g, row, y) }
		columns = append(columns, c)
		x += width + gap
	}
	text := func(of func(tenant) string, look style) func(tenantColumn, *grid, tenant, int) {
		return func(c tenantColumn, g *grid, row tenant, y int) { g.put(c.x, y, look, clip(clean(of(row)), c.width)) }
	}
	number := func(of func(tenant) (string, style)) func(tenantColumn, *grid, tenant, int) {
		return func(c tenantColumn, g *grid, row tenant, y int) {
			number, look := of(row)
			if number == "0" {
				look = dim
			}
			g.putRight(c.x+c.width, y, look, number)
		}
	}
	add(byName, "TENANT", name, 1, true, text(func(t tenant) string { return t.Tenant }, bold))
	add(byPlan, "PLAN", plan, 1, true, text(func(t tenant) string { return t.Plan }, plain))
	add(byRequests, "REQ/S", 6, 1, false, number(func(t tenant) (string, style) { return short(t.requests), plain }))
	add(byTokens, "TOK/S", 6, 1, false, number(func(t tenant) (string, style) { return short(t.tokens), plain }))
	add(byRunning, "RUN", 5, 1, false, number(func(t tenant) (string, style) { return count(t.Running), plain }))
	add(byStreams, "STR", 5, 1, false, number(func(t tenant) (string, style) { return count(t.Streams), plain }))
	add(byRefused, "REF/S", 6, 2, false, number(func(t tenant) (string, style) {
		if t.refused > 0 {
			return short(t.refused), warn
		}
		return short(t.refused), plain
	}))
	add(byBound, "NEAREST LIMIT", nearest, 0, true, drawNearest)
	return columns
}

// drawNearest is the limit that is the nearest to refusing: how much of it is used, and which it is.
func drawNearest(c tenantColumn, g *grid, row tenant, y int) {
	if row.Binding == nil {
		g.put(c.x, y, dim, "–")
		return
	}
	used := row.bound()
	bars := min(max(c.width-16, 4), 16)
	drawBar(g, c.x, y, used, bars)
	x := c.x + bars
	g.putRight(x+5, y, level(used), percent(used))
	words := limitWord(*row.Binding)
	if c.width > 40 {
		words += fmt.Sprintf(" %s/%s", count(row.Binding.Used), count(row.Binding.Max))
	}
	g.put(x+6, y, plain, clip(words, c.x+c.width-x-6))
}

func percent(part float64) string {
	if part > 0.99 && part < 1 {
		part = 0.99 // something is left
	}
	return fmt.Sprintf("%.0f%%", part*100)
}

var limitWords = map[string]string{
	"requests_per_minute": "req/min", "tokens_per_minute": "tok/min", "tokens_per_day": "tok/day",
	"concurrent_requests": "running", "concurrent_streams": "streams",
}

// limitWord is a limit's name where there is little room.
func limitWord(row adminapi.LimitRow) string {
	word, known := limitWords[row.Limit]
	if !known {
		word = clean(row.Limit)
	}
	if row.Class == "batch" {
		word = "b " + word
	}
	return word
}

// sorted are a map's keys, in order.
func sorted[Value any](of map[string]Value) []string { return slices.Sorted(maps.Keys(of)) }

// worded are numbers with their names, the largest first.
func worded(numbers map[string]float64) string {
	names := sorted(numbers)
	slices.SortStableFunc(names, func(a, b string) int { return int(numbers[b] - numbers[a]) })
	words := make([]string, len(names))
	for i, name := range names {
		words[i] = fmt.Sprintf("%s %s", clean(name), short(numbers[name]))
	}
	return strings.Join(words, ", ")
}
