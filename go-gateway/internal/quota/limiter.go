package quota

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"triptych.dev/gateway/internal/periodic"
)

const (
	// maxRecent is how many keys' latest decisions are remembered, some 2 KiB each.
	maxRecent = 16 << 10
	// maxRefusals is how many refusals of each are.
	maxRefusals = 16
	// averaged is how many of the latest durations a mean is of, about.
	averaged = 8
)

// Limiter decides by a Store, and remembers what it decided lately: who is over its rate is refused without a question
// to the store, and is told why. It is safe for concurrent use.
type Limiter struct {
	store Store
	now   func() time.Time

	mu     sync.Mutex
	recent map[subject]*recent // by key
	leased map[string]*Held    // what is renewed, by its id
	// pending is renewed too: as many as there are segments of batches that run here, or wait to be charged.
	pending map[string]*Pending
}

// NewLimiter returns a Limiter with a clock.
func NewLimiter(store Store, now func() time.Time) *Limiter {
	return &Limiter{store: store, now: now, recent: map[subject]*recent{}, leased: map[string]*Held{}, pending: map[string]*Pending{}}
}

// recent is what was decided lately of one key's requests of one class.
type recent struct {
	limits   [Scopes]Limits // that it was decided by
	decision Decision       // the latest
	at       time.Time

	refusals []RecordedRefusal // the latest, oldest first
	meanRun  time.Duration     // how long requests run; 0 = not known
}

// RecordedRefusal is a refusal, when it was, and of which key's request.
type RecordedRefusal struct {
	Refusal
	Time time.Time
	Key  string
}

// Held is a reservation until it is settled.
type Held struct {
	Reservation
	limiter *Limiter
	start   time.Time
	settled atomic.Bool
}

// Refused returns the decision against one more request of a key, if its rate is known to be used up: a negative cache.
// It is true of the store too, since no request is ever given back but by time.
func (l *Limiter) Refused(request Request) (Decision, bool) {
	if !request.Counted {
		return Decision{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	known := l.recent[request.subject(Key)]
	if known == nil || known.limits != request.Limits || known.decision.Limits != request.Limits { // by a share, for a while
		return Decision{}, false
	}
	decision := known.aged(now)
	rate := Request{Counted: true, Limits: request.Limits}
	if _, decision.Refusal = rate.decide(decision.States, now); decision.Refusal == nil {
		return Decision{}, false
	}
	known.record(*decision.Refusal, now, request.Key)
	return decision, true
}

// Latest returns the states that a key's latest decision left, as they are by now, and asks the store where there was none.
func (l *Limiter) Latest(ctx context.Context, request Request) (Decision, error) {
	if decision, known := l.latest(request); known {
		return decision, nil
	}
	return l.store.Look(ctx, request)
}

func (l *Limiter) latest(request Request) (Decision, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.recent[request.subject(Key)]
	if known == nil || known.limits != request.Limits {
		return Decision{}, false
	}
	return known.aged(l.now()), true
}

// aged is the latest decision's states after the time since.
func (r *recent) aged(now time.Time) Decision {
	decision := Decision{States: r.decision.States, Limits: r.decision.Limits, Now: r.decision.Now.Add(now.Sub(r.at))}
	for scope := range decision.States {
		state := &decision.States[scope]
		since := now.Sub(r.at).Microseconds()
		state.Requests, state.Tokens = max(0, state.Requests-since), max(0, state.Tokens-since)
		if decision.Now.UnixMicro()/day != r.decision.Now.UnixMicro()/day {
			state.DayTokens = 0
		}
	}
	return decision
}

func (r *recent) record(refusal Refusal, now time.Time, key string) {
	if len(r.refusals) == maxRefusals {
		r.refusals = append(r.refusals[:0], r.refusals[1:]...)
	}
	r.refusals = append(r.refusals, RecordedRefusal{refusal, now, key})
}

// Reserve decides on a request. What it grants is Held until it is settled; nil where it is refused. The error is of the
// store.
func (l *Limiter) Reserve(ctx context.Context, request Request) (*Held, Decision, error) {
	if decision, refused := l.Refused(request); refused {
		return nil, decision, nil
	}
	return l.reserve(ctx, request, nil)
}

// Replace gives back what is held, and decides on another request instead.
func (l *Limiter) Replace(ctx context.Context, held *Held, request Request) (*Held, Decision, error) {
	if held.settled.Swap(true) {
		return l.reserve(ctx, request, nil)
	}
	l.mu.Lock()
	delete(l.leased, held.ID)
	l.mu.Unlock()
	return l.reserve(ctx, request, &held.Reservation)
}

func (l *Limiter) reserve(ctx context.Context, request Request, instead *Reservation) (*Held, Decision, error) {
	start := l.now()
	decision, err := l.store.Reserve(ctx, request, instead)
	if err != nil {
		return nil, Decision{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.remember(request)
	known.decision, known.at = decision, start
	if refusal := decision.Refusal; refusal != nil {
		known.refuse(refusal, start, request.Key)
		return nil, decision, nil
	}
	held := &Held{Reservation: decision.Reservation, limiter: l, start: start}
	if held.HasLeases() {
		l.leased[held.ID] = held
	}
	return held, decision, nil
}

// refuse takes note of a refusal, and says when what runs at once may have ended.
func (r *recent) refuse(refusal *Refusal, now time.Time, key string) {
	if refusal.Kind == ConcurrentRequests || refusal.Kind == ConcurrentStreams {
		refusal.RetryAfter = r.meanRun / time.Duration(refusal.Limit)
	}
	r.record(*refusal, now, key)
}

// remember returns what is known of a key, which is little where it was not met lately.
func (l *Limiter) remember(request Request) *recent {
	of := request.subject(Key)
	known := l.recent[of]
	if known == nil {
		for other := range l.recent { // any will do: it is a cache
			if len(l.recent) < maxRecent {
				break
			}
			delete(l.recent, other)
		}
		known = &recent{}
		l.recent[of] = known
	}
	known.limits = request.Limits
	return known
}

// Settle charges so many tokens and gives the rest back. Only the first call counts.
func (h *Held) Settle(used int64) {
	if h.settled.Swap(true) {
		return
	}
	l := h.limiter
	l.mu.Lock()
	if h.Runs {
		if known := l.recent[h.subject(Key)]; known != nil {
			took := max(l.now().Sub(h.start), time.Millisecond)
			if known.meanRun == 0 {
				known.meanRun = took
			}
			known.meanRun += (took - known.meanRun) / averaged
		}
	}
	delete(l.leased, h.ID)
	l.mu.Unlock()
	if h.Pending != nil {
		h.Pending.add(h.Day, used) // before: so the tenant never seems to have more left
	}
	l.store.Settle(h.Reservation, used)
}

// Watch renews leases until ctx ends.
func (l *Limiter) Watch(ctx context.Context) {
	periodic.Every(ctx, l.store.Lease()/3, func(context.Context) { l.renew() })
}

// renew holds the lock while the store takes the renewals, so that none comes after its reservation's settlement.
func (l *Limiter) renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	reservations := make([]Reservation, 0, len(l.leased))
	for _, held := range l.leased {
		reservations = append(reservations, held.Reservation)
	}
	if len(reservations) > 0 {
		l.store.Renew(reservations)
	}
	for _, pending := range l.pending {
		pending.mu.Lock()
		pending.tell()
		pending.mu.Unlock()
	}
}

// Report is what a tenant may know of its own limits.
type Report struct {
	Limits []LimitStatus
	// Binding is the one that is the nearest to refusing, by the part that is left; nil if there is none.
	Binding *LimitStatus
	// Refusals are the latest ones by this gateway, latest first: of the key, or of all keys where the request has none.
	Refusals []RecordedRefusal
}

// Report asks the store what is used of a request's limits. One without a key is about its tenant alone.
func (l *Limiter) Report(ctx context.Context, request Request) (Report, error) {
	report, err := l.Use(ctx, request)
	if err == nil {
		report.Refusals = l.refusals(request)
	}
	return report, err
}

// Use is Report without refusals, which are searched for among those of all keys.
func (l *Limiter) Use(ctx context.Context, request Request) (Report, error) {
	found, err := l.store.Look(ctx, request)
	if err != nil {
		return Report{}, err
	}
	var report Report
	for scope := range request.Limited() {
		for _, kind := range Kinds {
			if status, limited := Status(kind, scope, found.Limits[scope], found.States[scope], found.Now); limited {
				report.Limits = append(report.Limits, status)
			}
		}
	}
	for i := range report.Limits {
		status := &report.Limits[i]
		if status.Kind != TokensPerRequest && (report.Binding == nil || status.part() < report.Binding.part()) {
			report.Binding = status
		}
	}
	return report, nil
}

// refusals are the latest ones of a request's key, or of all of its tenant's keys, latest first.
func (l *Limiter) refusals(request Request) []RecordedRefusal {
	l.mu.Lock()
	var found []RecordedRefusal
	if request.Key != "" {
		if known := l.recent[request.subject(Key)]; known != nil {
			found = slices.Clone(known.refusals)
		}
	} else {
		for of, known := range l.recent {
			if of.tenant == request.Tenant && of.class == request.Class {
				found = append(found, known.refusals...)
			}
		}
	}
	l.mu.Unlock()
	slices.Reverse(found) // oldest first until here
	slices.SortStableFunc(found, func(a, b RecordedRefusal) int { return b.Time.Compare(a.Time) })
	return found[:min(len(found), maxRefusals)]
}

// part is which part is left.
func (s LimitStatus) part() float64 { return float64(s.Remaining) / float64(s.Limit) }
