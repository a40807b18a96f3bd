package openai

import (
	"time"

	"github.com/go-json-experiment/json"

	"triptych.dev/gateway/internal/quota"
)

// LimitsReport is what GET /v1/limits tells: a tenant's own limits, of each class.
type LimitsReport struct {
	Tenant, Plan string
	Classes      map[quota.Class]quota.Report
	// Degraded says that a local share of the limits holds.
	Degraded bool
}

type limitsReply struct {
	Object   string          `json:"object"`
	Tenant   string          `json:"tenant"`
	Plan     string          `json:"plan"`
	Degraded bool            `json:"degraded"`
	Data     []limitStatus   `json:"data"`
	Refusals []recentRefusal `json:"recent_refusals"`
}

type limitStatus struct {
	Limit     string   `json:"limit"`
	Scope     string   `json:"scope"`
	Class     string   `json:"class"`
	Max       int64    `json:"max"`
	Used      int64    `json:"used"`
	Remaining int64    `json:"remaining"`
	Reset     *float64 `json:"reset_seconds"` // null where nobody knows
	Binding   bool     `json:"binding"`
}

type recentRefusal struct {
	Created    float64  `json:"created"`
	Limit      string   `json:"limit"`
	Scope      string   `json:"scope"`
	Class      string   `json:"class"`
	Max        int64    `json:"max"`
	Tokens     *int64   `json:"tokens"`              // null where it was not for tokens
	RetryAfter *float64 `json:"retry_after_seconds"` // null where repeating does not mend it
}

// RenderLimits returns the reply to GET /v1/limits.
func RenderLimits(report LimitsReport) ([]byte, error) {
	reply := limitsReply{
		Object: "list", Tenant: report.Tenant, Plan: report.Plan, Degraded: report.Degraded, Data: []limitStatus{}, Refusals: []recentRefusal{},
	}
	for class := range quota.Classes {
		of := report.Classes[class]
		for _, status := range of.Limits {
			row := limitStatus{
				Limit: status.Kind.String(), Scope: status.Scope.String(), Class: class.String(),
				Max: status.Limit, Used: status.Used(), Remaining: status.Remaining, Binding: of.Binding != nil && status == *of.Binding,
			}
			if status.Kind != quota.ConcurrentRequests && status.Kind != quota.ConcurrentStreams {
				row.Reset = new(status.Reset.Seconds())
			}
			reply.Data = append(reply.Data, row)
		}
		for _, recorded := range of.Refusals {
			row := recentRefusal{
				Created: float64(recorded.Time.UnixMilli()) / 1000,
				Limit:   recorded.Kind.String(), Scope: recorded.Scope.String(), Class: class.String(), Max: recorded.Limit,
			}
			if recorded.Tokens > 0 {
				row.Tokens = &recorded.Tokens
			}
			if !recorded.TooLarge {
				row.RetryAfter = new(max(recorded.RetryAfter, time.Millisecond).Seconds())
			}
			reply.Refusals = append(reply.Refusals, row)
		}
	}
	return json.Marshal(reply)
}
