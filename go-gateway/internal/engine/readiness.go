package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc/connectivity"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

// longestRefresh is how old the list of models may be.
const longestRefresh = time.Second

// canaryText is what the gateway embeds, continues or classifies when nobody else does.
const canaryText = "ready?"

var (
	errNotListed      = errors.New("the hot path has not listed its models yet")
	errConnectionLost = errors.New("the connection to the hot path was lost")
)

// readiness remembers which models the hot path has and when each of them last did its work.
type readiness struct {
	mu        sync.Mutex
	models    []*inferencev1.Model // as last listed; read-only once here
	listError error                // why the last listing failed
	successes map[string]time.Time // last successful inference by model
}

func newReadiness() readiness {
	return readiness{listError: unavailable(errNotListed), successes: map[string]time.Time{}}
}

// ModelStatus is one model as the gateway sees it.
type ModelStatus struct {
	Name  string
	State inferencev1.ModelState
	// Proven: an inference succeeded lately.
	Proven bool
}

// Watch keeps the list of models fresh and tries models that nobody uses, until ctx ends.
func (e *Engine) Watch(ctx context.Context) {
	connected := make(chan struct{}, 1)
	var watcher sync.WaitGroup
	defer watcher.Wait()
	watcher.Go(func() { e.watchConnection(ctx, connected) })
	ticker := time.NewTicker(min(longestRefresh, e.options.CanaryInterval))
	defer ticker.Stop()
	for {
		e.check(ctx)
		select {
		case <-ctx.Done():
			return
		case <-connected:
		case <-ticker.C:
		}
	}
}

// watchConnection forgets everything when the last connection is lost: what answers next may be another process, be it
// within the same second. A new connection is worth a check at once.
func (e *Engine) watchConnection(ctx context.Context, connected chan<- struct{}) {
	for {
		state := e.connection.GetState()
		if state == connectivity.Ready {
			select {
			case connected <- struct{}{}:
			default: // a check is due already
			}
		}
		if !e.connection.WaitForStateChange(ctx, state) {
			return
		}
		if state == connectivity.Ready {
			e.readiness.listed(nil, unavailable(errConnectionLost))
		}
	}
}

// check lists the models once and tries those without a recent success.
func (e *Engine) check(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, e.options.ReadyWindow)
	defer cancel()
	reply, err := invoke(ctx, e, "ListModels", e.models.ListModels, &inferencev1.ListModelsRequest{})
	e.readiness.listed(reply.GetModels(), err)
	var canaries sync.WaitGroup
	for _, model := range e.readiness.idle(e.options.Now().Add(-e.options.CanaryInterval)) {
		canaries.Go(func() { e.canary(ctx, model) })
	}
	canaries.Wait()
}

// canary makes one tiny inference. Its success is noted as any other's; its failure shows as the lack of one.
func (e *Engine) canary(ctx context.Context, model *inferencev1.Model) {
	// No tenant has the empty name, so the canary has a turn of its own.
	scheduling := &inferencev1.Scheduling{Priority: inferencev1.Priority_PRIORITY_INTERACTIVE}
	switch model.GetTask() {
	case inferencev1.Task_TASK_EMBEDDING:
		_, _ = e.Embed(ctx, &inferencev1.EmbedRequest{
			Model:      model.GetName(),
			Inputs:     []*inferencev1.EmbedInput{{Input: &inferencev1.EmbedInput_Text{Text: canaryText}}},
			Scheduling: scheduling,
		})
	case inferencev1.Task_TASK_GENERATION:
		generation := e.Generate(ctx, &inferencev1.GenerateRequest{
			Model:      model.GetName(),
			Prompt:     &inferencev1.GenerateRequest_Text{Text: canaryText},
			MaxTokens:  1,
			Scheduling: scheduling,
		})
		for range generation.Deltas() { // to its end
		}
		generation.Close()
	case inferencev1.Task_TASK_CLASSIFICATION:
		_, _ = e.Classify(ctx, &inferencev1.ClassifyRequest{
			Model: model.GetName(), Texts: []string{canaryText}, Scheduling: scheduling,
		})
	}
}

// Models returns the models that the hot path serves, as of about a second ago. Errors are *fault.Fault.
func (e *Engine) Models() ([]*inferencev1.Model, error) {
	e.readiness.mu.Lock()
	defer e.readiness.mu.Unlock()
	return e.readiness.models, e.readiness.listError
}

// Ready reports whether requests are likely to succeed, with what is known of each model: at least one model serves, none
// is still loading, and each that serves has done so lately. A model that failed does not take the others out of service.
func (e *Engine) Ready() (bool, []ModelStatus) {
	return e.readiness.status(e.options.Now().Add(-e.options.ReadyWindow))
}

func (r *readiness) status(since time.Time) (bool, []ModelStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	statuses := make([]ModelStatus, len(r.models))
	serving, healthy := 0, r.listError == nil
	for i, model := range r.models {
		proven := r.successes[model.GetName()].After(since)
		statuses[i] = ModelStatus{Name: model.GetName(), State: model.GetState(), Proven: proven}
		switch model.GetState() {
		case inferencev1.ModelState_MODEL_STATE_READY:
			serving++
			healthy = healthy && proven
		case inferencev1.ModelState_MODEL_STATE_FAILED:
		default:
			healthy = false
		}
	}
	return healthy && serving > 0, statuses
}

// failed forgets a model's success when the hot path says that the model does not work.
func (r *readiness) failed(model string, err error) {
	if fault.Of(err).Reason != fault.ModelNotReady {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.successes, model)
}

func (r *readiness) succeeded(model string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.successes[model] = now
}

// listed takes a new list. After a failed listing every model has to prove itself again: the hot path may be another
// process by then.
func (r *readiness) listed(models []*inferencev1.Model, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.models, r.listError = models, err
	if err != nil {
		clear(r.successes)
	}
}

// idle returns the serving models without a success after a time.
func (r *readiness) idle(since time.Time) []*inferencev1.Model {
	r.mu.Lock()
	defer r.mu.Unlock()
	var idle []*inferencev1.Model
	for _, model := range r.models {
		serves := model.GetState() == inferencev1.ModelState_MODEL_STATE_READY
		if serves && !r.successes[model.GetName()].After(since) {
			idle = append(idle, model)
		}
	}
	return idle
}
