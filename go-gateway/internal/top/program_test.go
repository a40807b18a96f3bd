package top

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"triptych.dev/gateway/internal/adminapi"
)

// patience bounds waits that end long before on any machine.
const patience = 10 * time.Second

// leaveScreen is how a terminal gets back what it showed before.
const leaveScreen = "\x1b[?1049l"

// scripted is a source that answers as it is told, from its second question on.
type scripted struct {
	mu     sync.Mutex
	asked  int
	answer func() error
}

func (s *scripted) Overview(context.Context) (adminapi.Overview, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.asked > 1 && s.answer != nil {
		if err := s.answer(); err != nil {
			return adminapi.Overview{}, err
		}
	}
	return *eveningAt(float64(s.asked)), nil
}

func (s *scripted) Limits(_ context.Context, tenant string) (adminapi.Limits, error) {
	return adminapi.Limits{Tenant: tenant}, nil
}

// screen takes what a program writes.
type screen struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (s *screen) Write(bytes []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.Write(bytes)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

// start runs the program with keys that are pressed at once, and returns what it wrote and why it ended.
func start(t *testing.T, ctx context.Context, source Source, keys string) (written string, err error) {
	t.Helper()
	input, press := io.Pipe()
	defer press.Close()
	go func() { _, _ = io.WriteString(press, keys) }()
	out, ended := &screen{}, make(chan error, 1)
	go func() {
		ended <- Run(ctx, source, Options{Address: "a:1", Interval: time.Millisecond, Input: input, Output: out, Now: time.Now})
	}()
	select {
	case err := <-ended:
		return out.String(), err
	case <-time.After(patience):
		t.Fatalf("it did not end; it wrote %q", out.String())
		return "", nil
	}
}

func TestItEndsAndGivesTheTerminalBack(t *testing.T) {
	stopped, stop := context.WithCancel(t.Context())
	for name, c := range map[string]struct {
		ctx    context.Context
		answer func() error
		keys   string
		want   error
	}{
		"q":           {ctx: t.Context(), keys: "q"},
		"ctrl+c":      {ctx: t.Context(), keys: "\x03"},
		"a signal":    {ctx: stopped, answer: func() error { stop(); return nil }},
		"a panic":     {ctx: t.Context(), answer: func() error { panic("a defect") }, want: tea.ErrProgramPanic},
		"a new token": {ctx: t.Context(), answer: func() error { return adminapi.RefusedError{Status: 401, Message: "unknown"} }, want: adminapi.RefusedError{Status: 401, Message: "unknown"}},
	} {
		written, err := start(t, c.ctx, &scripted{answer: c.answer}, c.keys)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v", name, err)
		}
		if entered := strings.Contains(written, "\x1b[?1049h"); entered && !strings.Contains(written, leaveScreen) {
			t.Errorf("%s: the terminal is left as it was: %q", name, written)
		}
	}
}

func TestAGatewayThatDoesNotAnswerAtFirstIsAnError(t *testing.T) {
	refused := refusing{errors.New("connection refused")}
	written, err := start(t, t.Context(), refused, "")
	if !errors.Is(err, refused.err) || written != "" {
		t.Errorf("got %v, and wrote %q", err, written)
	}
}

type refusing struct{ err error }

func (r refusing) Overview(context.Context) (adminapi.Overview, error) {
	return adminapi.Overview{}, r.err
}

func (r refusing) Limits(context.Context, string) (adminapi.Limits, error) {
	return adminapi.Limits{}, r.err
}

func TestTheLastPictureStaysWhileTheGatewayIsAway(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	p := &program{Options: Options{Interval: time.Second, Now: func() time.Time { return now }}, ctx: t.Context(), source: &scripted{}}
	p.width, p.height = 80, 24
	p.took(overviewed{overview: eveningAt(1)})
	if p.advance(now) != nil {
		t.Error("asked again at once")
	}
	for failures, wait := range []time.Duration{1, 2, 4, 8, 10, 10} {
		wait *= time.Second
		now = p.due
		if p.advance(now) == nil || p.advance(now) != nil {
			t.Fatalf("after %d failures: it is asked once", failures)
		}
		p.Update(overviewed{err: errors.New("connection refused")})
		if got := p.due.Sub(now); got != wait {
			t.Errorf("after %d failures: asked again in %v", failures+1, got)
		}
	}
	now = now.Add(3 * time.Second)
	p.advance(now)
	if got := draw(&p.picture, &p.state, 80, 24).text(); !strings.Contains(got, "STALE 29s") || !strings.Contains(got, "connection refused") || !strings.Contains(got, "acme") {
		t.Errorf("got\n%s", got)
	}
	p.Update(overviewed{overview: eveningAt(40)})
	if got := draw(&p.picture, &p.state, 80, 24).text(); strings.Contains(got, "STALE") {
		t.Errorf("once it is back:\n%s", got)
	}
	p.state.Paused = true
	now = now.Add(time.Hour)
	if p.advance(now) != nil {
		t.Error("asked while it is paused")
	}
}

func TestLimitsOfAnotherTenantAreNotShown(t *testing.T) {
	p := &program{Options: Options{Now: time.Now}, ctx: t.Context(), source: &scripted{}}
	p.state = State{Selected: "acme", Detail: true}
	p.Update(limited{tenant: "globex", limits: *globex()})
	if p.picture.Limits != nil {
		t.Error("they are of one that was left meanwhile")
	}
	p.Update(limited{tenant: "acme", err: errors.New("away")})
	if p.picture.LimitsFault != "away" {
		t.Errorf("got %q", p.picture.LimitsFault)
	}
}
