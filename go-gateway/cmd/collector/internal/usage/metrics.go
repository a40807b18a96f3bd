package usage

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// maxTenants have figures of their own. Those of others are told together, as "other": a metric has a series for each.
const maxTenants = 500

const other = "other"

// metrics are told of what is made, with the lock of the connector held.
type metrics struct {
	requests, tokens, early, lostRecords, discardedSpans metric.Int64Counter
	tenants                                              map[string]bool
}

func newMetrics(provider metric.MeterProvider, held func() (spans, requests, records int)) (*metrics, error) {
	meter := provider.Meter(scopeName)
	m := &metrics{tenants: map[string]bool{}}
	var faults []error
	counter := func(name, description string) metric.Int64Counter {
		made, err := meter.Int64Counter(name, metric.WithDescription(description))
		faults = append(faults, err)
		return made
	}
	m.requests = counter("collector_usage_requests", "Records that were made, one for each request.")
	m.tokens = counter("collector_usage_tokens", "Tokens in them: input, those of it that were cached, and output.")
	m.early = counter("collector_usage_early", "Records that were made before their time, since there were too many spans.")
	m.lostRecords = counter("collector_usage_lost", "Records that were not exported, and never will be.")
	m.discardedSpans = counter("collector_usage_discarded_spans", "Spans that are in no record.")
	for _, gauge := range []struct {
		name, description string
		of                func() int
	}{
		{"collector_usage_spans", "Spans that wait for their request to be whole.", func() int { spans, _, _ := held(); return spans }},
		{"collector_usage_remembered", "Requests that would be known again.", func() int { _, requests, _ := held(); return requests }},
		{"collector_usage_unsent", "Records that wait for an exporter.", func() int { _, _, records := held(); return records }},
	} {
		_, err := meter.Int64ObservableGauge(gauge.name, metric.WithDescription(gauge.description),
			metric.WithInt64Callback(func(_ context.Context, observer metric.Int64Observer) error {
				observer.Observe(int64(gauge.of()))
				return nil
			}))
		faults = append(faults, err)
	}
	return m, errors.Join(faults...)
}

func (m *metrics) made(of *record, early bool) {
	ctx := context.Background()
	model, operation := "", ""
	if of.model != nil {
		model, operation = of.model.name, of.model.operation
	}
	tenant := attribute.String("tenant", m.tenant(of.request.tenant))
	m.requests.Add(ctx, 1, metric.WithAttributes(tenant, attribute.String("operation", operation), attribute.String("model", model),
		attribute.String("outcome", of.request.outcome)))
	if early {
		m.early.Add(ctx, 1)
	}
	if of.model == nil {
		return
	}
	for _, tokens := range []struct {
		kind  string
		count int64
	}{{"input", of.model.input}, {"cached", of.model.cached}, {"output", of.model.output}} {
		if tokens.count > 0 {
			m.tokens.Add(ctx, tokens.count, metric.WithAttributes(tenant, attribute.String("model", model), attribute.String("kind", tokens.kind)))
		}
	}
}

// tenant returns how a tenant is told of.
func (m *metrics) tenant(name string) string {
	if !m.tenants[name] {
		if len(m.tenants) == maxTenants {
			return other
		}
		m.tenants[name] = true
	}
	return name
}

func (m *metrics) lost(records int) { m.lostRecords.Add(context.Background(), int64(records)) }

func (m *metrics) discarded(why string, spans int) {
	if spans > 0 {
		m.discardedSpans.Add(context.Background(), int64(spans), metric.WithAttributes(attribute.String("why", why)))
	}
}
