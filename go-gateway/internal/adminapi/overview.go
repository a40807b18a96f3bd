package adminapi

// OverviewPath is where a gateway says how it is.
const OverviewPath = "/admin/v1/overview"

// Bounds of an overview, whatever the number of tenants.
const (
	// MaxOverviewTenants are listed.
	MaxOverviewTenants = 50
	// MaxOverviewLimits is of how many of them the limits are looked up: in Redis each costs a question a class.
	MaxOverviewLimits = 20
)

// Overview is how one gateway is at a moment. What is named a total only grows while the gateway runs: rates are the
// differences of two overviews, over that of their times.
type Overview struct {
	Object string `json:"object"` // "overview"
	// Time is when it was taken, and Started when the gateway began, in seconds since 1970 by the gateway's clock.
	Time     float64 `json:"time"`
	Started  float64 `json:"started"`
	Version  string  `json:"version"`
	Revision string  `json:"revision"`

	Ready    bool `json:"ready"`
	Draining bool `json:"draining"`
	// Degraded says that a local share of the limits holds, since Redis is away.
	Degraded bool `json:"limits_degraded"`
	// Stale says of each source whose changes cannot be taken for how many seconds they could not be.
	Stale map[string]float64 `json:"stale_seconds"`

	Inflight    Share        `json:"inflight_requests"`
	BodyBytes   Share        `json:"body_bytes"`
	Connections []Connection `json:"connections"`
	Goroutines  int          `json:"goroutines"`

	Requests float64 `json:"requests_total"` // of all tenants, those that no client waits for too
	Tokens   float64 `json:"tokens_total"`
	// Refusals are the requests that failed, by reason: one of docs/errors.md.
	Refusals map[string]float64 `json:"refusals_total"`

	// Tenants are the busiest, in order: by requests that run or came since the overview before this one.
	Tenants []TenantUse `json:"tenants"`
	// MoreTenants are those that asked for something since the gateway began and are not listed.
	MoreTenants int       `json:"more_tenants"`
	Replicas    []Replica `json:"replicas"`
}

// Share is how much of something is in use.
type Share struct {
	Used int64 `json:"used"`
	Max  int64 `json:"max"`
}

// Connection is how many connections a listener has.
type Connection struct {
	Listener string `json:"listener"`
	Share
}

// TenantUse is what one tenant uses.
type TenantUse struct {
	Tenant   string  `json:"tenant"`
	Plan     string  `json:"plan"` // empty where there is no such tenant any longer
	Requests float64 `json:"requests_total"`
	Tokens   float64 `json:"tokens_total"`
	Running  int64   `json:"running"` // requests, streams among them
	Streams  int64   `json:"streams"`
	// Refusals are its requests that its limits refused, by limit.
	Refusals map[string]float64 `json:"refusals_total"`
	// Binding is the tenant's own limit that is the nearest to refusing; null where there is none, or was not looked up.
	Binding *LimitRow `json:"binding"`
}

// Replica is a hot path as the gateway sees it.
type Replica struct {
	Address        string  `json:"address"`
	Connected      bool    `json:"connected"`
	ListAgeSeconds float64 `json:"list_age_seconds"`
	ListError      string  `json:"list_error,omitzero"`
	Ejected        bool    `json:"ejected"`            // it failed, and gets no requests that others can take
	Draining       bool    `json:"draining"`           // it says that it is about to end
	Calls          int64   `json:"outstanding_calls"`  // of this gateway
	Tokens         int64   `json:"outstanding_tokens"` // of this gateway
	Load           int64   `json:"load_tokens"`        // of all gateways, as far as is known
	Models         []Model `json:"models"`
}

// Model is one of a hot path's. What it has to do is what the hot path last said, of all gateways; 0 while it says
// nothing.
type Model struct {
	ID     string `json:"id"`
	State  string `json:"state"`
	Proven bool   `json:"proven"` // an inference succeeded lately
	Cause  string `json:"cause,omitzero"`

	Queued          uint64  `json:"queued_tokens"`
	Running         uint64  `json:"running_tokens"`
	TokensPerSecond float64 `json:"tokens_per_second"` // as its latest runs were measured
	Waiting         uint64  `json:"waiting_requests"`
	// Rows are those in use of MaxRows: what runs at once is that many texts that grow, or batches of texts that do not.
	// MaxRows is 0 where the hot path does not tell, as one of an earlier version.
	Rows    uint32 `json:"rows"`
	MaxRows uint32 `json:"max_rows"`
}
