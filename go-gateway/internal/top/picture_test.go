package top

import (
	"math"
	"testing"

	"triptych.dev/gateway/internal/adminapi"
)

func overviewOf(at, requests float64) *adminapi.Overview {
	return &adminapi.Overview{
		Time: at, Started: 1, Requests: requests, Refusals: map[string]float64{},
		Tenants: []adminapi.TenantUse{{Tenant: "acme", Requests: requests}},
	}
}

func TestRatesAreOfTheGatewaysTime(t *testing.T) {
	var p Picture
	p.take(overviewOf(100, 50))
	if got := p.rates().requests; !math.IsNaN(got) {
		t.Errorf("after the first overview: %v", got)
	}
	p.take(overviewOf(104, 90))
	if got := p.rates().requests; got != 10 {
		t.Errorf("got %v", got)
	}
	p.take(overviewOf(104, 90)) // the same one again, as somebody else asked too
	if got := p.rates().requests; got != 10 {
		t.Errorf("after the same overview: %v", got)
	}
	restarted := overviewOf(105, 3)
	restarted.Started = 104.5
	p.take(restarted)
	if got, rows := p.rates().requests, p.tenants(byRequests, false); !math.IsNaN(got) || !math.IsNaN(rows[0].requests) || p.Requests != nil {
		t.Errorf("after a restart: %v, %v, %v", got, rows, p.Requests)
	}
}

func TestATenantThatWasNotListedHasNoRate(t *testing.T) {
	var p Picture
	first := overviewOf(100, 0)
	first.Tenants = nil
	p.take(first)
	p.take(overviewOf(101, 900))
	if got := p.tenants(byRequests, false)[0].requests; got != 900 {
		t.Errorf("where all were listed it is new: %v", got)
	}
	p.Before.MoreTenants = 1
	if got := p.tenants(byRequests, false)[0].requests; !math.IsNaN(got) {
		t.Errorf("where not all were, nobody knows: %v", got)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	var p Picture
	for i := range 10 * maxHistory {
		p.take(overviewOf(float64(i), float64(i)))
	}
	if len(p.Requests) != maxHistory || len(p.Tokens) != maxHistory {
		t.Errorf("%d and %d rates", len(p.Requests), len(p.Tokens))
	}
}

func TestKeys(t *testing.T) {
	p, s := evening(), &State{}
	press := func(keys ...string) (last action) {
		for _, key := range keys {
			last = s.press(key, p)
		}
		return last
	}
	rows := p.tenants(byRequests, false)
	if press("down", "down", "up"); s.Selected != rows[1].Tenant {
		t.Errorf("selected %q", s.Selected)
	}
	if press("end"); s.Selected != rows[len(rows)-1].Tenant {
		t.Errorf("the end is %q", s.Selected)
	}
	if press("down", "home", "up"); s.Selected != rows[0].Tenant {
		t.Errorf("the beginning is %q", s.Selected)
	}
	if press("enter") != askLimits || !s.Detail || press("down") != askLimits || s.Selected != rows[1].Tenant {
		t.Errorf("the detail: %+v", s)
	}
	if press("esc") != nothing || s.Detail {
		t.Errorf("back: %+v", s)
	}
	if press("right"); s.Sort != byTokens {
		t.Errorf("sorted by %v", s.Sort)
	}
	if press("left", "left", "left", "left"); s.Sort != byBound {
		t.Errorf("the columns are a ring: %v", s.Sort)
	}
	if press("r", "p"); !s.Reverse || !s.Paused {
		t.Errorf("got %+v", s)
	}
	if press("?"); !s.Help {
		t.Errorf("got %+v", s)
	}
	if press("p"); s.Help || !s.Paused {
		t.Errorf("any key leaves the help, and does nothing else: %+v", s)
	}
	if press("ctrl+z") != suspend || press("q") != quit || press("ctrl+c") != quit {
		t.Error("the ways out")
	}
	empty, none := &Picture{}, &State{}
	for _, key := range []string{"up", "down", "home", "end", "enter", "left", "r", "x"} {
		none.press(key, empty)
	}
	if none.Detail || none.Selected != "" {
		t.Errorf("of nobody: %+v", none)
	}
}

func TestEveryColumnSorts(t *testing.T) {
	p := evening()
	for _, by := range shownColumns {
		rows := p.tenants(by, false)
		for i := range rows[1:] {
			if by.compare(rows[i], rows[i+1]) > 0 {
				t.Errorf("column %d: %v before %v", by, rows[i], rows[i+1])
			}
		}
		backwards := p.tenants(by, true)
		if by.compare(rows[0], backwards[len(rows)-1]) != 0 {
			t.Errorf("column %d: reversed, %v is last", by, backwards[len(rows)-1])
		}
	}
}
