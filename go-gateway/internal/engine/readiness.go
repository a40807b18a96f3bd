package engine

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

// refreshInterval is how old the list of models usually is at most.
const refreshInterval = time.Second

var (
	errNotListed      = errors.New("the hot path has not listed its models yet")
	errConnectionLost = errors.New("the connection to the hot path was lost")
)

// readiness remembers which models one replica has and when each of them last did its work.
type readiness struct {
	mu        sync.Mutex
	models    []*inferencev1.Model // as last listed; read-only once here
	listedAt  time.Time            // zero before the first list, and once the connection was lost
	listError error                // why the last listing failed; nil if it did not
	successes map[string]time.Time // last successful inference by model
	failures  map[string]error     // why the last one was none, until the next success
	canaries  map[string]bool      // models that are being tried
}

func newReadiness() *readiness {
	return &readiness{
		listError: errNotListed, successes: map[string]time.Time{}, failures: map[string]error{}, canaries: map[string]bool{},
	}
}

// ModelStatus is one model of one replica as the gateway sees it.
type ModelStatus struct {
	Name  string
	State inferencev1.ModelState
	// Proven: an inference succeeded lately.
	Proven bool
	// Cause is why not, as far as it is known; for operators.
	Cause string
	// Load is what the replica says of it.
	Load ModelLoad
}

// ReplicaStatus is one hot path as the gateway sees it.
type ReplicaStatus struct {
	Address   string
	Connected bool
	// Models as last listed; none once that is too long ago.
	Models []ModelStatus
	// ListAge is how long ago that was.
	ListAge time.Duration
	// ListError is why the last listing failed; nil if it did not.
	ListError error

	// Ejected: it gets no calls that another one can take, since it failed at them.
	Ejected bool
	// Draining: it says that it is about to end.
	Draining bool
	// Calls and Tokens are what this gateway has outstanding there, and Load what there is to do of all gateways, in tokens.
	Calls, Tokens, Load int64
	// Retries are calls that it got since another one had not begun them, and Ejections how often it was ejected; both since
	// the gateway knows it.
	Retries, Ejections uint64
}

// Models returns what is served, as of about a second ago: the models of all replicas, each once. Errors are
// *fault.Fault.
func (e *Engine) Models() ([]*inferencev1.Model, error) {
	now := e.options.Now()
	byName := map[string]*inferencev1.Model{}
	listed := false
	var cause error
	for _, r := range e.pool.replicas() {
		models, err := r.readiness.current(now, e.options.ReadyWindow)
		if err != nil {
			cause = errors.Join(cause, fmt.Errorf("%s: %w", r.address, err))
			continue
		}
		listed = true
		for _, model := range models {
			byName[model.GetName()] = preferred(byName[model.GetName()], model)
		}
	}
	if !listed {
		if cause == nil {
			cause = errNoReplica
		}
		return nil, unavailable(cause)
	}
	models := make([]*inferencev1.Model, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		models = append(models, byName[name])
	}
	return models, nil
}

// Model returns one of Models, by its name; nil where it is not known.
func (e *Engine) Model(name string) (found *inferencev1.Model) {
	now := e.options.Now()
	for _, r := range e.pool.replicas() {
		models, err := r.readiness.current(now, e.options.ReadyWindow)
		if err != nil {
			continue
		}
		for _, model := range models {
			if model.GetName() == name {
				found = preferred(found, model)
			}
		}
	}
	return found
}

// preferred is which replica's word on a model is told: one that serves it.
func preferred(known, other *inferencev1.Model) *inferencev1.Model {
	if known == nil || !isServed(known) {
		return other
	}
	return known
}

func isServed(model *inferencev1.Model) bool {
	return model.GetState() == inferencev1.ModelState_MODEL_STATE_READY
}

// Ready reports whether requests are likely to succeed, with what is known of each replica: at least one model serves,
// and each that any replica serves or loads has served lately, somewhere. A model that failed does not take the others
// out of service, nor a replica that is away those that have its models too.
func (e *Engine) Ready() (bool, []ReplicaStatus) {
	const failed, waits, works = 0, 1, 2
	best := map[string]int{}
	known := e.pool.replicas()
	replicas := make([]ReplicaStatus, len(known))
	for i, r := range known {
		replicas[i] = r.status()
		for _, model := range replicas[i].Models {
			state := waits
			switch {
			case model.State == inferencev1.ModelState_MODEL_STATE_FAILED:
				state = failed
			case model.State == inferencev1.ModelState_MODEL_STATE_READY && model.Proven:
				state = works
			}
			best[model.Name] = max(best[model.Name], state)
		}
	}
	ready := false
	for _, state := range best {
		if state == waits {
			return false, replicas
		}
		ready = ready || state == works
	}
	return ready, replicas
}

// Replicas is what is known of each.
func (e *Engine) Replicas() []ReplicaStatus {
	_, replicas := e.Ready()
	return replicas
}

func (r *replica) status() ReplicaStatus {
	now := r.options.Now()
	status := r.readiness.status(now, r.options.ReadyWindow)
	status.Address, status.Connected = r.address, r.connected()
	status.Ejected, status.Ejections, status.Retries = r.ejection.out.Load(), r.ejection.count.Load(), r.retries.Load()
	status.Calls, status.Tokens = r.work.outstanding()
	status.Load, status.Draining = r.work.load(), r.draining.Load()
	for i := range status.Models {
		status.Models[i].Load = r.backlogs.said(status.Models[i].Name)
	}
	return status
}

// logChanges logs what has changed since the last time.
func (r *replica) logChanges() {
	status := r.status()
	words := map[string]string{}
	causes := map[string]string{}
	for _, model := range status.Models {
		words[model.Name], causes[model.Name] = model.word(), model.Cause
	}
	if len(status.Models) == 0 && status.ListError != nil { // of all that it had
		for name := range r.reported {
			words[name], causes[name] = "away", status.ListError.Error()
		}
	}
	for name, before := range r.reported {
		if _, still := words[name]; !still {
			r.options.Logger.Info("a model is gone", "replica", r.address, "model", name, "before", before)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(words)) {
		if words[name] == r.reported[name] {
			continue
		}
		attributes := []any{"replica", r.address, "model", name, "state", words[name]}
		switch words[name] {
		case "ready", "starting":
			r.options.Logger.Info("a model changed its state", attributes...)
		default:
			r.options.Logger.Warn("a model changed its state", append(attributes, "cause", causes[name])...)
		}
	}
	r.reported = words
}

// word is the model's state in the log: as listed, but that one which is listed as ready has to prove it.
func (m ModelStatus) word() string {
	switch {
	case m.State == inferencev1.ModelState_MODEL_STATE_FAILED:
		return "failed"
	case m.State != inferencev1.ModelState_MODEL_STATE_READY, !m.Proven && m.Cause == "":
		return "starting"
	case m.Proven:
		return "ready"
	default:
		return "unproven"
	}
}

// isCurrent reports whether the list is good. The caller holds the lock.
func (r *readiness) isCurrent(now time.Time, window time.Duration) bool {
	return !r.listedAt.IsZero() && now.Sub(r.listedAt) < window
}

func (r *readiness) current(now time.Time, window time.Duration) ([]*inferencev1.Model, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.isCurrent(now, window) {
		return nil, r.listError
	}
	return r.models, nil
}

func (r *readiness) status(now time.Time, window time.Duration) ReplicaStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	status := ReplicaStatus{ListError: r.listError}
	if !r.isCurrent(now, window) {
		return status
	}
	status.ListAge = now.Sub(r.listedAt)
	for _, model := range r.models {
		success := r.successes[model.GetName()]
		known := ModelStatus{Name: model.GetName(), State: model.GetState(), Proven: success.After(now.Add(-window))}
		switch failure := r.failures[model.GetName()]; {
		case !isServed(model):
			known.Cause = model.GetStatusMessage()
		case known.Proven:
		case failure != nil:
			known.Cause = failure.Error()
		case !success.IsZero():
			known.Cause = fmt.Sprintf("no inference succeeded in %v", window)
		}
		status.Models = append(status.Models, known)
	}
	return status
}

// suitability ranks what is known of a model, connection aside.
func (r *readiness) suitability(model string, since time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.models, func(listed *inferencev1.Model) bool { return listed.GetName() == model })
	switch {
	case r.listedAt.IsZero() && i >= 0: // by a process that is gone
		return isLost
	case r.listedAt.IsZero():
		return mayServe
	case i < 0:
		return lacks
	case !isServed(r.models[i]):
		return doesNotServe
	case r.successes[model].After(since):
		return works
	default:
		return serves
	}
}

// hasServed reports whether there is a model that serves, by its own word.
func (r *readiness) hasServed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.models, isServed)
}

// failed notes why a call failed. The model's success is forgotten when the hot path says that the model does not work.
func (r *readiness) failed(model string, failure *fault.Fault) {
	if failure.Reason != fault.ModelNotReady {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.successes, model)
	r.failures[model] = failure
}

func (r *readiness) succeeded(model string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.successes[model] = now
	delete(r.failures, model)
}

// listed takes a new list, and forgets models that are not in it.
func (r *readiness) listed(models []*inferencev1.Model, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.models, r.listedAt, r.listError = models, now, nil
	gone := func(name string) bool {
		return !slices.ContainsFunc(models, func(model *inferencev1.Model) bool { return model.GetName() == name })
	}
	maps.DeleteFunc(r.successes, func(name string, _ time.Time) bool { return gone(name) })
	maps.DeleteFunc(r.failures, func(name string, _ error) bool { return gone(name) })
}

// notListed keeps the list, which grows old: one slow answer says nothing of the models.
func (r *readiness) notListed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listError = err
}

// lost forgets what was proven, and keeps the names alone: the hot path may be another process when it is back.
func (r *readiness) lost(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listedAt, r.listError = time.Time{}, err
	clear(r.successes)
	clear(r.failures)
}

// startCanaries returns the models to try now: those that serve, without a success after a time, that are not being
// tried.
func (r *readiness) startCanaries(since time.Time) []*inferencev1.Model {
	r.mu.Lock()
	defer r.mu.Unlock()
	var idle []*inferencev1.Model
	if r.listedAt.IsZero() {
		return nil
	}
	for _, model := range r.models {
		name := model.GetName()
		if isServed(model) && !r.canaries[name] && !r.successes[name].After(since) {
			r.canaries[name] = true
			idle = append(idle, model)
		}
	}
	return idle
}

// canaryDone notes how a canary went.
func (r *readiness) canaryDone(model string, failure error, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.canaries, model)
	switch {
	case failure == nil:
		r.successes[model] = now
		delete(r.failures, model)
	case fault.Of(failure).Reason != fault.Cancelled: // nobody's fault: the gateway ends
		r.failures[model] = failure
		if fault.Of(failure).Reason == fault.ModelNotReady {
			delete(r.successes, model)
		}
	}
}
