package top

import (
	"fmt"
	"strings"
	"time"

	"triptych.dev/gateway/internal/adminapi"
)

// The smallest screen that has room for anything.
const (
	minWidth  = 60
	minHeight = 12
)

// draw is a picture on a screen of a size.
func draw(p *Picture, s *State, width, height int) *grid {
	g := newGrid(width, height)
	if width < minWidth || height < minHeight {
		g.put(0, 0, bold, fmt.Sprintf("gateway top needs %d columns and %d rows.", minWidth, minHeight))
		return g
	}
	drawTitle(g, p, s)
	y := drawNotes(g, p, 1)
	drawFoot(g, s)
	switch last := height - 1; {
	case s.Help:
		drawHelp(g, y+1, last)
	case p.Now == nil:
		g.put(1, y+1, dim, "waiting for the gateway's first word")
	default:
		y = drawHead(g, p, y+1)
		if s.Detail {
			drawDetail(g, p, s, y+1, last)
			break
		}
		rows := p.tenants(s.Sort, s.Reverse)
		y = drawReplicas(g, p.Now.Replicas, y+1, last-3-min(len(rows), 6))
		drawTenants(g, p, s, rows, y+1, last)
	}
	return g
}

// drawTitle says which gateway it is and how it is.
func drawTitle(g *grid, p *Picture, s *State) {
	x := g.put(1, 0, bold, "gateway ")
	x = g.put(x, 0, bold|accent, clip(p.Address, 30))
	if p.Now != nil {
		word, of := stateOf(p.Now)
		x = g.put(x+2, 0, bold|of, "● "+word)
		x = g.put(x+2, 0, plain, "up "+length(fromSeconds(p.Now.Time-p.Now.Started)))
		if room := g.width - x - 14; room > 8 {
			g.put(x+2, 0, dim, clip(clean(p.Now.Version), room))
		}
	}
	switch {
	case p.Fault != "":
		g.putRight(g.width-1, 0, bold|bad, " STALE "+length(p.Age))
	case s.Paused:
		g.putRight(g.width-1, 0, bold|warn, " PAUSED")
	case p.Now != nil:
		at := time.UnixMilli(int64(p.Now.Time * 1000)).UTC()
		g.putRight(g.width-1, 0, dim, at.Format(" 15:04:05Z"))
	}
	g.add(0, g.width, 0, invert)
}

func stateOf(overview *adminapi.Overview) (word string, of style) {
	switch {
	case overview.Draining:
		return "draining", warn
	case !overview.Ready:
		return "not ready", bad
	default:
		return "ready", good
	}
}

// drawNotes says what is wrong with the gateway as a whole, and returns the row after that.
func drawNotes(g *grid, p *Picture, y int) int {
	note := func(of style, text string) {
		for _, line := range wrap(clean(text), g.width-2) {
			g.put(1, y, of, line)
			y++
		}
	}
	if p.Fault != "" {
		note(bad, p.Fault)
	}
	if p.Now == nil {
		return y
	}
	if p.Now.Degraded {
		note(bad, "Redis is away: this gateway has a local share of the limits.")
	}
	if len(p.Now.Stale) > 0 {
		var words []string
		for _, source := range sorted(p.Now.Stale) {
			words = append(words, fmt.Sprintf("%s for %s", source, length(fromSeconds(p.Now.Stale[source]))))
		}
		note(warn, "Changes cannot be taken: "+strings.Join(words, ", ")+". The log says why.")
	}
	return y
}

// drawHead has the gateway's rates with their curves, and what it has room for, and returns the row after that.
func drawHead(g *grid, p *Picture, y int) int {
	of := p.rates()
	gauges := g.width/2 + 2
	for i, line := range []struct {
		name    string
		rate    float64
		history []float64
		style   style
	}{
		{"requests/s", of.requests, p.Requests, accent}, {"tokens/s", of.tokens, p.Tokens, accent}, {"refused/s", of.refused, p.Refused, warn},
	} {
		g.put(1, y+i, dim, line.name)
		g.putRight(18, y+i, bold, short(line.rate))
		g.put(20, y+i, line.style, curve(line.history, gauges-22))
	}
	drawGauge(g, gauges, y, "running", p.Now.Inflight, count[int64])
	drawGauge(g, gauges, y+1, "bodies", p.Now.BodyBytes, size)
	for _, listener := range p.Now.Connections {
		if listener.Listener == "http" {
			drawGauge(g, gauges, y+2, "connections", listener.Share, count[int64])
		}
	}
	y += 3
	if len(of.reasons) > 0 {
		var words []string
		for _, reason := range of.reasons {
			words = append(words, strings.ToLower(reason.name)+" "+short(reason.rate))
		}
		g.put(20, y, warn, clip(clean(strings.Join(words, ", ")), g.width-21))
		y++
	}
	return y
}

// drawGauge is one of what there is a most of.
func drawGauge(g *grid, x, y int, name string, share adminapi.Share, number func(int64) string) {
	g.put(x, y, dim, name)
	x += 12
	width := min(g.width-x-15, 40)
	drawBar(g, x, y, part(share.Used, share.Max), width)
	g.putRight(x+width+6, y, bold, number(share.Used))
	g.put(x+width+7, y, dim, "/ "+number(share.Max))
}

func drawBar(g *grid, x, y int, part float64, width int) {
	full, rest := bar(part, width)
	x = g.put(x, y, level(part), full)
	g.put(x, y, dim, rest)
}

// drawHeading is the names of a table's columns.
func drawHeading(g *grid, y int) { g.add(0, g.width, y, bold|dim) }

func drawFoot(g *grid, s *State) {
	x, y := 1, g.height-1
	for _, key := range []struct{ key, does string }{
		{"q", "quit"}, {"↑↓", "tenant"}, {"enter", "its limits"}, {"←→", "sort"}, {"r", "reverse"}, {"p", "pause"}, {"?", "help"},
	} {
		if key.key == "enter" && s.Detail {
			key.does = "back"
		}
		x = g.put(x, y, bold|accent, key.key)
		x = g.put(x+1, y, dim, key.does) + 2
	}
}

// drawHelp says what the keys do, and what the numbers mean.
func drawHelp(g *grid, y, end int) {
	for _, line := range []struct{ what, means string }{
		{"↑ ↓  k j", "select a tenant; home and end go to the first and the last"},
		{"enter", "its limits and why it was refused lately, and back"},
		{"← →", "sort by another column; r turns the order"},
		{"p", "pause, and go on"},
		{"q", "quit"},
		{"", ""},
		{"running", "requests of the API at once; bodies: bytes of theirs"},
		{"CALLS", "this gateway's; LOAD is of all gateways, in tokens"},
		{"ROWS", "what runs at once, of what can; of a hot path, its fullest model"},
		{"DRAINS", "how long what waits and runs takes at the measured speed"},
		{"RUN STR", "requests that run, and the streams among them"},
		{"REF/S", "requests a second that the tenant's limits refused"},
		{"NEAREST", "its limit of which the least is left; b: of batch work"},
	} {
		if y >= end {
			return
		}
		g.put(2, y, bold|accent, line.what)
		g.put(13, y, plain, line.means)
		y++
	}
}
