// Package limitsjson is the JSON of GET /v1/limits, as both of its ends see it.
//
// It must not depend on what counts, nor on what serves it.
package limitsjson

// Reply tells a tenant's limits, of each class.
type Reply struct {
	Object   string    `json:"object"`
	Tenant   string    `json:"tenant"`
	Plan     string    `json:"plan"`
	Degraded bool      `json:"degraded"`
	Data     []Row     `json:"data"`
	Refusals []Refusal `json:"recent_refusals"`
}

// Row is one limit, and how much of it is used.
type Row struct {
	Limit     string   `json:"limit"`
	Scope     string   `json:"scope"`
	Class     string   `json:"class"`
	Max       int64    `json:"max"`
	Used      int64    `json:"used"`
	Remaining int64    `json:"remaining"`
	Reset     *float64 `json:"reset_seconds"` // null where nobody knows
	Binding   bool     `json:"binding"`
}

// Refusal is a refusal, and when it was.
type Refusal struct {
	Created    float64  `json:"created"`
	Key        string   `json:"key"` // whose request it was
	Limit      string   `json:"limit"`
	Scope      string   `json:"scope"`
	Class      string   `json:"class"`
	Max        int64    `json:"max"`
	Tokens     *int64   `json:"tokens"`              // null where it was not for tokens
	RetryAfter *float64 `json:"retry_after_seconds"` // null where repeating does not mend it
}
