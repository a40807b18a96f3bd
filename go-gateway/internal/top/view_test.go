package top

import (
	"flag"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/adminapi"
)

var update = flag.Bool("update", false, "write what is drawn to testdata and docs")

// isAsBefore holds what is drawn to a file.
func isAsBefore(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		t.Errorf("%s is not what is drawn (go test ./internal/top -update writes it), %v:\n%s", path, err, got)
	}
}

func TestDraw(t *testing.T) {
	away := evening()
	away.Fault, away.Age = "no gateway answers at the admin address 127.0.0.1:9466: dial tcp 127.0.0.1:9466: connect: connection refused", 42*time.Second
	away.Now.Degraded, away.Now.Ready = true, false
	away.Now.Stale = map[string]float64{"keys": 75, "tenants": 3}
	asked := evening()
	asked.Limits = globex()
	idle := &Picture{Address: "127.0.0.1:9466"}
	idle.take(&adminapi.Overview{Time: began, Started: began - 3, Ready: true})

	for _, c := range []struct {
		name          string
		picture       *Picture
		state         State
		width, height int
	}{
		{"small", evening(), State{}, 80, 24},
		{"wide", evening(), State{Sort: byBound, Selected: "globex"}, 132, 40},
		{"detail", asked, State{Detail: true, Selected: "globex"}, 80, 24},
		{"asking", asked, State{Detail: true, Selected: "acme"}, 80, 24},
		{"help", evening(), State{Help: true}, 80, 24},
		{"away", away, State{}, 80, 24},
		{"crowd", crowd(), State{Selected: "tenant-049-of-a-rather-long-name-indeed"}, 80, 24},
		{"idle", idle, State{Paused: true}, 80, 24},
		{"tiny", evening(), State{}, 40, 10},
	} {
		g := draw(c.picture, &c.state, c.width, c.height)
		isAsBefore(t, filepath.Join("testdata", c.name+".txt"), g.text())
	}
}

func TestEverySizeIsKept(t *testing.T) {
	asked := evening()
	asked.Limits = globex()
	pictures := []*Picture{{}, evening(), crowd(), asked}
	for _, p := range pictures {
		for _, state := range []State{{}, {Selected: "globex"}, {Detail: true, Selected: "globex"}, {Help: true}} {
			for width := -1; width < 140; width += 3 {
				for height := -1; height < 50; height += 2 {
					g := draw(p, &state, width, height)
					if len(g.cells) != max(width, 0)*max(height, 0) {
						t.Fatalf("%d×%d: %d cells", width, height, len(g.cells))
					}
				}
			}
		}
	}
}

// What somebody else chose must not reach the terminal as it is.
func TestNothingFromOutsideIsAnEscapeSequence(t *testing.T) {
	hostile := "x\x1b]0;title\x07\x1b[2J\u202eevil\u200b\r\n\u009b31mあ\x00\xff"
	p := evening()
	p.Address, p.Fault = hostile, hostile
	now := p.Now
	now.Version = hostile
	now.Stale = map[string]float64{hostile: 1}
	now.Refusals = map[string]float64{hostile: 1e9}
	now.Connections[0].Listener = hostile
	for i := range now.Tenants {
		now.Tenants[i].Tenant, now.Tenants[i].Plan = hostile, hostile
		now.Tenants[i].Refusals = map[string]float64{hostile: 1}
		now.Tenants[i].Binding = limit(hostile, hostile, 1, 2)
	}
	for i := range now.Replicas {
		now.Replicas[i].Address, now.Replicas[i].ListError = hostile, hostile
		for j := range now.Replicas[i].Models {
			now.Replicas[i].Models[j] = adminapi.Model{ID: hostile, State: hostile, Cause: hostile}
		}
	}
	p.Limits = &adminapi.Limits{Tenant: hostile, Data: []adminapi.LimitRow{*limit(hostile, hostile, 1, 2)},
		Refusals: []adminapi.RefusalRow{{Key: hostile, Limit: hostile, Scope: hostile}}}
	for _, state := range []State{{}, {Detail: true, Selected: hostile}} {
		for _, c := range draw(p, &state, 132, 40).cells {
			if c.rune < ' ' || c.rune > '~' && clean(string(c.rune)) != string(c.rune) {
				t.Errorf("%q is on the screen", c.rune)
			}
		}
		if got := draw(p, &state, 132, 40).terminal(false); strings.Contains(strings.ReplaceAll(got, "\x1b[", ""), "\x1b") || strings.Contains(got, "[2J\x1b") || strings.Contains(got, "\x1b[2J") {
			t.Errorf("got %q", got)
		}
	}
	var out strings.Builder
	if err := write(&out, p); err != nil || strings.ContainsFunc(out.String(), func(r rune) bool { return r < ' ' && r != '\n' || r == 0x9b || r == 0x202e }) {
		t.Errorf("got %q, %v", out.String(), err)
	}
}

func TestColoursAreLeftOutWhereTheyAreNotWanted(t *testing.T) {
	g := newGrid(3, 1)
	g.put(0, 0, bold|bad, "no")
	if got := g.terminal(true); got != "\x1b[0;1;31mno\x1b[0m " {
		t.Errorf("with colours: %q", got)
	}
	if got := g.terminal(false); got != "\x1b[0;1mno\x1b[0m " {
		t.Errorf("without: %q", got)
	}
}

func TestOnceIsPlainTables(t *testing.T) {
	var out strings.Builder
	if err := write(&out, evening()); err != nil {
		t.Fatal(err)
	}
	isAsBefore(t, filepath.Join("testdata", "once.txt"), out.String())
}

func TestNumbersAreShort(t *testing.T) {
	for number, want := range map[float64]string{
		0: "0", 0.01: "0.0", 0.5: "0.5", 9.96: "10.0", 99.94: "99.9", 99.96: "100", 999.4: "999", 999.6: "1.0k", 12_345: "12.3k", 999_499: "999k",
		999_600: "1.0M", 1e15: "1.0P", 1e30: "many", math.Inf(1): "–", unknown: "–",
	} {
		if got := short(number); got != want || columns(got) > 5 {
			t.Errorf("%v: got %q", number, got)
		}
	}
	for bytes, want := range map[int64]string{0: "0B", 999: "999B", 1000: "1.0K", 1024: "1K", 96 << 20: "96M", 5 << 29: "2.5G", math.MaxInt64: "many"} {
		if got := size(bytes); got != want || columns(got) > 5 {
			t.Errorf("%v: got %q", bytes, got)
		}
	}
	for d, want := range map[time.Duration]string{
		-1: "–", 0: "0.0s", 9900 * time.Millisecond: "9.9s", 59900 * time.Millisecond: "59s", 192 * time.Second: "3m12s", 4*time.Hour + 5*time.Minute: "4h05m",
		76 * time.Hour: "3d04h", 5000 * time.Hour: "208d",
	} {
		if got := length(d); got != want {
			t.Errorf("%v: got %q", d, got)
		}
	}
	for part, want := range map[float64]string{0: "░░░░", 0.001: "█░░░", 0.5: "██░░", 0.999: "███░", 1: "████"} {
		if full, rest := bar(part, 4); full+rest != want {
			t.Errorf("%v: got %q", part, full+rest)
		}
	}
	if got := wrap("one two three four five", 8); !slices.Equal(got, []string{"one two", "three f…"}) {
		t.Errorf("got %q", got)
	}
	if got := curve([]float64{9, 0, 1, 2, 8}, 4); got != "▁▂▃█" {
		t.Errorf("got %q", got)
	}
}
