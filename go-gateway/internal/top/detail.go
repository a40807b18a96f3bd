package top

import (
	"fmt"
	"slices"
	"time"

	"triptych.dev/gateway/internal/adminapi"
)

// drawDetail is the selected tenant: what it does, its limits, and why it was refused lately.
func drawDetail(g *grid, p *Picture, s *State, y, end int) {
	rows := p.tenants(s.Sort, s.Reverse)
	i := slices.IndexFunc(rows, func(row tenant) bool { return row.Tenant == s.Selected })
	x := g.put(1, y, bold|accent, clip(clean(s.Selected), g.width/2))
	if i < 0 {
		g.put(x+2, y, dim, "is not among the busiest now")
	} else {
		drawUse(g, rows[i], x+2, y)
		if refused := rows[i].Refusals; len(refused) > 0 {
			y++
			g.put(1, y, dim, "refused")
			g.put(10, y, warn, clip("since the start: "+worded(refused), g.width-11))
		}
	}
	y += 2
	switch limits := p.Limits; {
	case p.LimitsFault != "":
		g.put(1, y, bad, clip(clean(p.LimitsFault), g.width-2))
	case limits == nil || limits.Tenant != s.Selected:
		g.put(1, y, dim, "asking for its limits")
	case len(limits.Data) == 0:
		g.put(1, y, dim, "It has no limits.")
	default:
		y = drawLimits(g, limits.Data, y, end)
		drawRefusals(g, limits.Refusals, y+1, end)
	}
}

func drawUse(g *grid, row tenant, x, y int) {
	for _, one := range []struct{ name, value string }{
		{"plan", clean(row.Plan)}, {"req/s", short(row.requests)}, {"tok/s", short(row.tokens)},
		{"running", count(row.Running)}, {"streams", count(row.Streams)}, {"refused/s", short(row.refused)},
	} {
		if one.value == "" || x+len(one.name)+1+columns(one.value) >= g.width {
			continue
		}
		x = g.put(x, y, dim, one.name)
		x = g.put(x+1, y, plain, one.value) + 2
	}
}

// drawLimits returns the row after them.
func drawLimits(g *grid, limits []adminapi.LimitRow, y, end int) int {
	const bar = 34
	bars := min(max(g.width-72, 2), 40)
	used := bar + bars + 6
	most, left, free := used+6, used+12, used+20
	g.put(1, y, plain, "LIMIT")
	g.put(22, y, plain, "CLASS")
	g.putRight(used, y, plain, "USED")
	g.putRight(most, y, plain, "MAX")
	g.putRight(left, y, plain, "LEFT")
	g.putRight(free, y, plain, "FREE IN")
	drawHeading(g, y)
	y++
	for i, row := range limits {
		if y >= end-1 && i < len(limits)-1 {
			g.put(1, y, dim, fmt.Sprintf("and %d more", len(limits)-i))
			return y + 1
		}
		g.put(1, y, plain, clip(clean(row.Limit), 20))
		g.put(22, y, dim, clip(clean(row.Class), 11))
		if row.Limit != "tokens_per_request" { // nothing uses it up
			drawBar(g, bar, y, part(row.Used, row.Max), bars)
			g.putRight(used, y, plain, count(row.Used))
			g.putRight(left, y, bold, count(row.Remaining))
			g.putRight(free, y, plain, freeIn(row))
		}
		g.putRight(most, y, plain, count(row.Max))
		if row.Binding {
			g.put(free+1, y, warn, "◀ binds")
		}
		y++
	}
	return y
}

func freeIn(row adminapi.LimitRow) string {
	switch {
	case row.Used == 0:
		return "–"
	case row.Reset == nil:
		return "at end"
	default:
		return length(fromSeconds(*row.Reset))
	}
}

func drawRefusals(g *grid, refusals []adminapi.RefusalRow, y, end int) {
	if y >= end-1 {
		return
	}
	if len(refusals) == 0 {
		g.put(1, y, dim, "This gateway has refused nothing lately.")
		return
	}
	g.put(1, y, plain, "REFUSED AT")
	g.put(12, y, plain, "KEY")
	g.put(24, y, plain, "BY")
	g.put(45, y, plain, "OF")
	g.putRight(61, y, plain, "TOKENS")
	g.putRight(72, y, plain, "RETRY IN")
	drawHeading(g, y)
	for _, row := range refusals {
		if y++; y >= end {
			return
		}
		tokens, retry := "–", "never"
		if row.Tokens != nil {
			tokens = count(*row.Tokens)
		}
		if row.RetryAfter != nil {
			retry = length(fromSeconds(*row.RetryAfter))
		}
		g.put(1, y, dim, time.UnixMilli(int64(row.Created*1000)).UTC().Format("15:04:05"))
		g.put(12, y, plain, clip(clean(row.Key), 11))
		g.put(24, y, warn, clip(clean(row.Limit), 20))
		g.put(45, y, plain, clip(clean(row.Scope), 8))
		g.putRight(61, y, plain, tokens)
		g.putRight(72, y, plain, retry)
	}
}
