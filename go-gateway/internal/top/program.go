package top

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	tea "charm.land/bubbletea/v2"

	"triptych.dev/gateway/internal/adminapi"
)

const (
	// beat is how often it is looked whether something is due.
	beat = 200 * time.Millisecond
	// askTimeout is after how long a gateway that does not answer counts as away.
	askTimeout = 5 * time.Second
	// maxBackoff is how long it is left alone at most, then.
	maxBackoff = 10 * time.Second
)

// Source is where overviews come from.
type Source interface {
	Overview(ctx context.Context) (adminapi.Overview, error)
	// Limits are those of a tenant alone.
	Limits(ctx context.Context, tenant string) (adminapi.Limits, error)
}

// Options are what the program needs.
type Options struct {
	// Address is shown, as whose picture it is.
	Address string
	// Interval is how often an overview is asked for.
	Interval time.Duration
	// Colored says that there may be colours.
	Colored bool
	Input   io.Reader
	Output  io.Writer
	Now     func() time.Time
}

// Run shows the gateway on a terminal until somebody has seen enough, or ctx ends. It gives the terminal back as it was,
// whatever happens. A gateway that does not answer at first, or refuses to, is an error.
func Run(ctx context.Context, source Source, options Options) error {
	first, err := ask(ctx, source)
	if err != nil {
		return err
	}
	p := &program{Options: options, ctx: ctx, source: source}
	p.picture.Address = options.Address
	p.took(overviewed{overview: &first})
	_, err = tea.NewProgram(p, tea.WithContext(ctx), tea.WithInput(options.Input), tea.WithOutput(options.Output),
		tea.WithoutSignalHandler()).Run()
	switch {
	case p.refused != nil:
		return p.refused
	case ctx.Err() != nil && !errors.Is(err, tea.ErrProgramPanic):
		return nil // a signal
	default:
		return err
	}
}

// program is the state of the whole, which one goroutine has.
type program struct {
	Options
	ctx    context.Context
	source Source

	picture       Picture
	state         State
	width, height int

	asking   bool
	due      time.Time // when the next overview is
	fresh    time.Time // when the latest came
	failures int       // since then
	refused  error     // it is of no use to go on
}

// What happens.
type (
	tick       time.Time
	overviewed struct {
		overview *adminapi.Overview
		err      error
	}
	limited struct {
		tenant string
		limits adminapi.Limits
		err    error
	}
)

func ask(ctx context.Context, source Source) (adminapi.Overview, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return source.Overview(ctx)
}

func nextTick() tea.Cmd { return tea.Tick(beat, func(at time.Time) tea.Msg { return tick(at) }) }

// Init implements tea.Model.
func (p *program) Init() tea.Cmd { return nextTick() }

// Update implements tea.Model.
func (p *program) Update(message tea.Msg) (tea.Model, tea.Cmd) {
	switch message := message.(type) {
	case tea.WindowSizeMsg:
		p.width, p.height = message.Width, message.Height
	case tea.KeyPressMsg:
		switch p.state.press(message.String(), &p.picture) {
		case quit:
			return p, tea.Quit
		case suspend:
			return p, tea.Suspend
		case askLimits:
			return p, p.askLimits()
		}
	case tick:
		return p, tea.Batch(nextTick(), p.advance(p.Now()))
	case overviewed:
		p.took(message)
		if p.refused != nil {
			return p, tea.Quit
		}
		if message.err == nil && p.state.Detail {
			return p, p.askLimits()
		}
	case limited:
		p.tookLimits(message)
	}
	return p, nil
}

// View implements tea.Model.
func (p *program) View() tea.View {
	view := tea.NewView(draw(&p.picture, &p.state, p.width, p.height).terminal(p.Colored))
	view.AltScreen = true
	view.WindowTitle = "gateway top " + clean(p.Address)
	return view
}

// advance asks for an overview if one is due.
func (p *program) advance(now time.Time) tea.Cmd {
	if p.picture.Fault != "" {
		p.picture.Age = now.Sub(p.fresh)
	}
	if p.asking || p.state.Paused || now.Before(p.due) {
		return nil
	}
	p.asking, p.due = true, now.Add(p.Interval)
	return func() tea.Msg {
		overview, err := ask(p.ctx, p.source)
		return overviewed{&overview, err}
	}
}

// took takes an overview, or keeps the last one if there is none.
func (p *program) took(came overviewed) {
	p.asking = false
	now := p.Now()
	if came.err == nil {
		if p.due.IsZero() {
			p.due = now.Add(p.Interval)
		}
		p.fresh, p.failures = now, 0
		p.picture.take(came.overview)
		return
	}
	if isFinal(came.err) {
		p.refused = came.err
		return
	}
	p.failures++
	p.due = now.Add(backoff(p.Interval, p.failures))
	p.picture.Fault, p.picture.Age = came.err.Error(), now.Sub(p.fresh)
}

// isFinal reports whether asking again would not help.
func isFinal(err error) bool {
	refused, is := errors.AsType[adminapi.RefusedError](err)
	return is && (refused.Status == http.StatusUnauthorized || refused.Status == http.StatusForbidden || refused.Status == http.StatusNotFound)
}

// backoff is how long to wait after so many failures.
func backoff(interval time.Duration, failures int) time.Duration {
	return max(interval, min(interval<<min(failures-1, 16), maxBackoff))
}

func (p *program) askLimits() tea.Cmd {
	tenant := p.state.Selected
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(p.ctx, askTimeout)
		defer cancel()
		limits, err := p.source.Limits(ctx, tenant)
		return limited{tenant, limits, err}
	}
}

func (p *program) tookLimits(came limited) {
	if came.tenant != p.state.Selected {
		return // of one that was left meanwhile
	}
	p.picture.Limits, p.picture.LimitsFault = &came.limits, ""
	if came.err != nil {
		p.picture.Limits, p.picture.LimitsFault = nil, came.err.Error()
	}
}
