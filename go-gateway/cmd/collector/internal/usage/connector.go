// Package usage is a connector of the collector: spans of the stack go in, and a record of what each request used comes out,
// exactly once.
//
// It is a connector and not a processor, since what comes out is of another kind: records are those of a log, which a pipeline
// of logs exports where they are wanted, while the spans go where spans go. It stands before any sampling of traces, for what is
// not in a span is in no record.
//
// It knows the stack by the names of its spans alone: names.go.
package usage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/connector"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.uber.org/zap"
)

const scopeName = "triptych.dev/collector/usage"

// Config is what a configuration says of it.
type Config struct {
	// Wait is how long after a request's own span other spans of it are waited for.
	Wait time.Duration `mapstructure:"wait"`
	// Patience is how long spans are kept whose request's own span has not come: the longest request, or so.
	Patience time.Duration `mapstructure:"patience"`
	// MaxSpans are kept at most. Beyond it, records are made of what there is.
	MaxSpans int `mapstructure:"max_spans"`
	// Remember is how long a request is known again if its span comes once more.
	Remember time.Duration `mapstructure:"remember"`
	// MaxRequests are remembered at most, and at least half as many.
	MaxRequests int `mapstructure:"max_requests"`
	// MaxUnsent records are kept at most while an exporter does not take them. The oldest are lost first.
	MaxUnsent int `mapstructure:"max_unsent"`
}

// Validate refuses what cannot be.
func (c *Config) Validate() error {
	var faults []error
	for _, each := range []struct {
		name        string
		value       time.Duration
		least, most time.Duration
	}{
		{"wait", c.Wait, 10 * time.Millisecond, time.Hour}, {"patience", c.Patience, time.Second, 24 * time.Hour},
		{"remember", c.Remember, time.Second, 7 * 24 * time.Hour},
	} {
		if each.value < each.least || each.value > each.most {
			faults = append(faults, fmt.Errorf("%s: %v is not from %v to %v", each.name, each.value, each.least, each.most))
		}
	}
	for _, each := range []struct {
		name  string
		value int
	}{{"max_spans", c.MaxSpans}, {"max_requests", c.MaxRequests}, {"max_unsent", c.MaxUnsent}} {
		if each.value < 1 || each.value > 100_000_000 {
			faults = append(faults, fmt.Errorf("%s: %d is not from 1 to 100000000", each.name, each.value))
		}
	}
	return errors.Join(faults...)
}

func defaults() component.Config {
	return &Config{
		Wait:        5 * time.Second,  // both services send each second, and an attempt to send may take as long
		Patience:    10 * time.Minute, // longer than the gateway's generation timeout
		MaxSpans:    100_000,          // some 25 MB; a dozen a request, so 8,000 requests in `wait`
		Remember:    time.Hour,
		MaxRequests: 1_000_000, // some 55 MB
		MaxUnsent:   10_000,    // some 6 MB
	}
}

// NewFactory returns the factory of `usage`.
func NewFactory() connector.Factory {
	return connector.NewFactory(component.MustNewType("usage"), defaults,
		connector.WithTracesToLogs(newConnector, component.StabilityLevelStable))
}

// usage is the connector.
type usage struct {
	next    consumer.Logs
	log     *zap.Logger
	metrics *metrics
	tick    time.Duration

	mutex     sync.Mutex
	assembly  *assembly
	unsent    []record
	sending   int // more that are unsent: an exporter has not answered yet
	maxUnsent int

	stop    context.CancelFunc
	stopped chan struct{}
	failing bool // the exporter did not take the last records
}

func newConnector(_ context.Context, settings connector.Settings, config component.Config, next consumer.Logs) (connector.Traces, error) {
	of := config.(*Config)
	u := &usage{next: next, log: settings.Logger, maxUnsent: of.MaxUnsent, tick: min(of.Wait/4, time.Second)}
	u.assembly = newAssembly(of, func(why string, spans int) { u.metrics.discarded(why, spans) })
	var err error
	u.metrics, err = newMetrics(settings.MeterProvider, u.held)
	return u, err
}

// held is how many spans, remembered requests and unsent records there are.
func (u *usage) held() (spans, requests, records int) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	return u.assembly.spans, u.assembly.seen.len(), len(u.unsent) + u.sending
}

// Capabilities says that spans are only read.
func (u *usage) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

// Start begins to send records as they become due.
func (u *usage) Start(context.Context, component.Host) error {
	ctx, cancel := context.WithCancel(context.Background()) // that of Start ends with it
	u.stop, u.stopped = cancel, make(chan struct{})
	go func() {
		defer close(u.stopped)
		ticker := time.NewTicker(u.tick)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				u.collect(u.assembly.take)
				u.send(context.Background()) // what is half sent when this ends would be sent twice
			}
		}
	}()
	return nil
}

// Shutdown sends the records of all requests whose spans have come. What feeds it has ended before.
func (u *usage) Shutdown(ctx context.Context) error {
	if u.stop == nil { // it was never started
		return nil
	}
	u.stop()
	<-u.stopped
	u.collect(func(time.Time) []whole { return u.assembly.rest() })
	u.send(ctx)
	if left := len(u.unsent); left > 0 {
		u.metrics.lost(left)
		return fmt.Errorf("%d records of usage are lost: they could not be exported", left)
	}
	return nil
}

// ConsumeTraces takes spans in. It never fails and never waits for an exporter: who sends spans would lose them for the sake of
// records.
func (u *usage) ConsumeTraces(_ context.Context, traces ptrace.Traces) error {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	now := time.Now()
	for _, resource := range traces.ResourceSpans().All() {
		for _, scope := range resource.ScopeSpans().All() {
			if name := scope.Scope().Name(); name != gatewayScope && name != hotpathScope {
				continue // of a client, which may be in the same trace
			}
			for _, from := range scope.Spans().All() {
				u.keep(u.assembly.add(from.TraceID(), read(from), now), true)
			}
		}
	}
	return nil
}

func (u *usage) collect(take func(time.Time) []whole) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	u.keep(take(time.Now()), false)
}

// keep has requests wait to be sent as records. It is called with the lock held.
func (u *usage) keep(requests []whole, early bool) {
	for _, each := range requests {
		if len(u.unsent) == u.maxUnsent {
			u.unsent[0] = record{}
			u.unsent = u.unsent[1:]
			u.metrics.lost(1)
		}
		made := recordOf(each)
		u.metrics.made(&made, early)
		u.unsent = append(u.unsent, made)
	}
}

// send exports what waits. What an exporter does not take is tried again with the next tick, unless it never will.
func (u *usage) send(ctx context.Context) {
	u.mutex.Lock()
	records := u.unsent
	u.unsent, u.sending = nil, len(records)
	u.mutex.Unlock()
	for len(records) > 0 {
		batch := records[:min(len(records), maxBatch)]
		err := u.next.ConsumeLogs(ctx, logs(batch, time.Now()))
		if err != nil && !u.failing {
			u.log.Error("records of usage are not exported", zap.Error(err))
		} else if err == nil && u.failing {
			u.log.Info("records of usage are exported again")
		}
		u.failing = err != nil
		if err != nil && !consumererror.IsPermanent(err) {
			break
		}
		if err != nil {
			u.metrics.lost(len(batch))
		}
		records = records[len(batch):]
		u.mutex.Lock()
		u.sending = len(records)
		u.mutex.Unlock()
	}
	if len(records) == 0 {
		return
	}
	u.mutex.Lock()
	defer u.mutex.Unlock()
	u.unsent, u.sending = append(records, u.unsent...), 0
	if over := len(u.unsent) - u.maxUnsent; over > 0 {
		u.metrics.lost(over)
		clear(u.unsent[:over])
		u.unsent = u.unsent[over:]
	}
}

const maxBatch = 512 // records: a line of a file has some 400 KB at most
