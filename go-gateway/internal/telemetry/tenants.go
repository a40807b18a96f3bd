package telemetry

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// OtherTenants is what metrics call all tenants together that have no series of their own. No tenant's name has a bracket.
const OtherTenants = "(other)"

const (
	// Once a minute those that have series of their own are compared with others: who was twice as busy takes the place.
	rankEvery  = time.Minute
	busierThan = 2
	// maxOthers is how many others are compared, for each that has series of its own.
	maxOthers = 8
)

// Tenants are the metrics of tenants. There may be more of them than Prometheus can bear series, so the busiest have their own,
// and all others one together. A series never goes back: who loses its place begins at 0 where it gets one again, and what it
// uses meanwhile is counted for the others.
type Tenants struct {
	requests, tokens, generated, cached, limited, seconds, rowSeconds *prometheus.CounterVec
	streams                                                           *prometheus.GaugeVec

	most int
	now  func() time.Time

	mu     sync.Mutex // held while a series is changed, so that none comes back after it was dropped
	named  map[string]*namedTenant
	others map[string]float64 // what some of them used since
	since  time.Time

	// Of all tenants.
	allRequests, allTokens float64
}

// namedTenant has series of its own.
type namedTenant struct {
	used    float64 // since
	streams int     // now: these must be counted down where they were counted up
}

func newTenants(most int, now func() time.Time) *Tenants {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"tenant"}, labels...))
	}
	return &Tenants{
		requests:  counter("gateway_tenant_requests_total", "Requests of tenants that ended, refused ones and those that no client waits for too."),
		tokens:    counter("gateway_tokens_total", "Charged tokens.", "model"),
		generated: counter("gateway_generated_tokens_total", "Charged tokens that were generated.", "model"),
		cached:    counter("gateway_cached_tokens_total", "Charged tokens whose computation was reused.", "model"),
		limited:   counter("gateway_rate_limited_total", "Requests refused by limits.", "limit"),
		seconds: counter("gateway_tenant_seconds_total",
			"Where the time of tenants' calls went at the hot path, as it tells for those that succeed: a call that shares a run with others has all of its time.", "phase"),
		rowSeconds: counter("gateway_tenant_row_seconds_total", "Time for which tenants' choices had a row of a generating model, of calls that failed too."),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "gateway_streams", Help: "Streams that are being written.",
		}, []string{"tenant"}),
		most: most, now: now, since: now(), named: map[string]*namedTenant{}, others: map[string]float64{},
	}
}

func (t *Tenants) vectors() []*prometheus.MetricVec {
	vectors := []*prometheus.MetricVec{t.streams.MetricVec}
	for _, counter := range []*prometheus.CounterVec{t.requests, t.tokens, t.generated, t.cached, t.limited, t.seconds, t.rowSeconds} {
		vectors = append(vectors, counter.MetricVec)
	}
	return vectors
}

// Ended counts a request that ended.
func (t *Tenants) Ended(tenant string) {
	t.count(tenant, 1, func(name string, _ *namedTenant) {
		t.requests.WithLabelValues(name).Inc()
		t.allRequests++
	})
}

// Limited counts a request that a limit refused.
func (t *Tenants) Limited(tenant, limit string) {
	t.count(tenant, 0, func(name string, _ *namedTenant) { t.limited.WithLabelValues(name, limit).Inc() })
}

// Charged counts the tokens of a call.
func (t *Tenants) Charged(tenant, model string, tokens uint64) {
	t.count(tenant, float64(tokens), func(name string, _ *namedTenant) {
		t.tokens.WithLabelValues(name, model).Add(float64(tokens))
		t.allTokens += float64(tokens)
	})
}

// Generated counts those of a generation's tokens that were generated, and those whose computation was reused.
func (t *Tenants) Generated(tenant, model string, generated, cached uint64) {
	t.count(tenant, 0, func(name string, _ *namedTenant) {
		t.generated.WithLabelValues(name, model).Add(float64(generated))
		t.cached.WithLabelValues(name, model).Add(float64(cached))
	})
}

// Spent counts where the time of a call went, and for how long its choices had rows.
func (t *Tenants) Spent(tenant string, phases []Phase, rows time.Duration) {
	t.count(tenant, 0, func(name string, _ *namedTenant) {
		for _, phase := range phases {
			t.seconds.WithLabelValues(name, phase.Name).Add(phase.Took.Seconds())
		}
		if rows > 0 {
			t.rowSeconds.WithLabelValues(name).Add(rows.Seconds())
		}
	})
}

// StreamBegan counts a stream until ended is called, once.
func (t *Tenants) StreamBegan(tenant string) (ended func()) {
	var gauge prometheus.Gauge
	var of *namedTenant
	t.count(tenant, 0, func(name string, named *namedTenant) {
		gauge, of = t.streams.WithLabelValues(name), named
		gauge.Inc()
		if of != nil {
			of.streams++
		}
	})
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		gauge.Dec()
		if of != nil {
			of.streams--
		}
	}
}

// Totals are the requests that ended and the tokens that were charged, of all tenants.
func (t *Tenants) Totals() (requests, tokens float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.allRequests, t.allTokens
}

// count has something counted under the name that a tenant has in metrics now. used ranks it.
func (t *Tenants) count(tenant string, used float64, count func(name string, named *namedTenant)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := t.now(); now.Sub(t.since) >= rankEvery {
		t.rank()
		t.since = now
	}
	named := t.named[tenant]
	if named == nil && len(t.named) < t.most {
		named = &namedTenant{}
		t.named[tenant] = named
	}
	if named != nil {
		named.used += used
		count(tenant, named)
		return
	}
	if _, compared := t.others[tenant]; compared || len(t.others) < maxOthers*t.most {
		t.others[tenant] += used
	}
	count(OtherTenants, nil)
}

// rank gives the places of those that used little to others that used more, and begins anew.
func (t *Tenants) rank() {
	idlest := slices.SortedFunc(maps.Keys(t.named), func(a, b string) int {
		return cmp.Or(cmp.Compare(t.named[a].used, t.named[b].used), cmp.Compare(a, b))
	})
	busiest := slices.SortedFunc(maps.Keys(t.others), func(a, b string) int {
		return cmp.Or(cmp.Compare(t.others[b], t.others[a]), cmp.Compare(a, b))
	})
	for _, place := range idlest {
		if len(busiest) == 0 || t.others[busiest[0]] <= busierThan*t.named[place].used {
			break
		}
		if t.named[place].streams > 0 {
			continue
		}
		for _, vector := range t.vectors() {
			vector.DeletePartialMatch(prometheus.Labels{"tenant": place})
		}
		delete(t.named, place)
		t.named[busiest[0]] = &namedTenant{}
		busiest = busiest[1:]
	}
	for _, named := range t.named {
		named.used = 0
	}
	clear(t.others)
}

// TenantCounts are what one tenant was counted with since it has series of its own.
type TenantCounts struct {
	Requests, Tokens float64
	Streams          int64              // now
	Limited          map[string]float64 // requests that its limits refused, by limit; nil where there is none
}

// ByTenant reads the metrics that have tenants, of all that have series of their own, and of OtherTenants if there are such. It
// costs what a scrape of them does.
func (m *Metrics) ByTenant() map[string]*TenantCounts {
	tenants := map[string]*TenantCounts{}
	read := func(from prometheus.Collector, add func(counts *TenantCounts, labels labels, value float64)) {
		each(from, func(labels labels, value float64) {
			tenant := labels.of("tenant")
			counts, known := tenants[tenant]
			if !known {
				counts = &TenantCounts{}
				tenants[tenant] = counts
			}
			add(counts, labels, value)
		})
	}
	read(m.Tenants.requests, func(counts *TenantCounts, _ labels, value float64) { counts.Requests += value })
	read(m.Tenants.tokens, func(counts *TenantCounts, _ labels, value float64) { counts.Tokens += value })
	read(m.Tenants.streams, func(counts *TenantCounts, _ labels, value float64) { counts.Streams += int64(value) })
	read(m.Tenants.limited, func(counts *TenantCounts, labels labels, value float64) {
		if counts.Limited == nil {
			counts.Limited = map[string]float64{}
		}
		counts.Limited[labels.of("limit")] += value
	})
	return tenants
}

// ByReason reads how many requests failed since the gateway began, by reason.
func (m *Metrics) ByReason() map[string]float64 {
	reasons := map[string]float64{}
	each(m.Requests, func(labels labels, value float64) {
		if reason := labels.of("reason"); reason != "OK" {
			reasons[reason] += value
		}
	})
	return reasons
}

// labels are those of one number.
type labels []*dto.LabelPair

// of returns the value of a label.
func (l labels) of(name string) string {
	for _, pair := range l {
		if pair.GetName() == name {
			return pair.GetValue()
		}
	}
	return ""
}

// each reads all numbers of counters or gauges.
func each(from prometheus.Collector, take func(labels labels, value float64)) {
	metrics := make(chan prometheus.Metric, 64)
	go func() {
		defer close(metrics)
		from.Collect(metrics)
	}()
	for metric := range metrics {
		var read dto.Metric
		if metric.Write(&read) == nil { // of a counter or a gauge it never fails
			take(read.GetLabel(), read.GetCounter().GetValue()+read.GetGauge().GetValue())
		}
	}
}
