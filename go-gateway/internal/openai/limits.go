package openai

import (
	"time"

	"github.com/go-json-experiment/json"

	"triptych.dev/gateway/internal/limitsjson"
	"triptych.dev/gateway/internal/quota"
)

// LimitsReport is what GET /v1/limits tells, and the admin API: a tenant's limits, of each class.
type LimitsReport struct {
	Tenant, Plan string
	Classes      map[quota.Class]quota.Report
	// Degraded says that a local share of the limits holds.
	Degraded bool
}

// The reply's JSON.
type (
	LimitsReply = limitsjson.Reply
	LimitRow    = limitsjson.Row
	RefusalRow  = limitsjson.Refusal
)

// RenderLimits returns the reply to GET /v1/limits.
func RenderLimits(report LimitsReport) ([]byte, error) { return json.Marshal(report.Reply()) }

// Reply is the report as JSON has it.
func (report LimitsReport) Reply() LimitsReply {
	reply := LimitsReply{
		Object: "list", Tenant: report.Tenant, Plan: report.Plan, Degraded: report.Degraded, Data: []LimitRow{}, Refusals: []RefusalRow{},
	}
	for class := range quota.Classes {
		of := report.Classes[class]
		for _, status := range of.Limits {
			reply.Data = append(reply.Data, RenderLimit(class, status, of.Binding != nil && status == *of.Binding))
		}
		for _, recorded := range of.Refusals {
			row := RefusalRow{
				Created: float64(recorded.Time.UnixMilli()) / 1000, Key: recorded.Key,
				Limit: recorded.Kind.String(), Scope: recorded.Scope.String(), Class: class.String(), Max: recorded.Limit,
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
	return reply
}

// RenderLimit is one limit as JSON has it.
func RenderLimit(class quota.Class, status quota.LimitStatus, binding bool) LimitRow {
	row := LimitRow{
		Limit: status.Kind.String(), Scope: status.Scope.String(), Class: class.String(),
		Max: status.Limit, Used: status.Used(), Remaining: status.Remaining, Binding: binding,
	}
	if status.Kind != quota.ConcurrentRequests && status.Kind != quota.ConcurrentStreams {
		row.Reset = new(status.Reset.Seconds())
	}
	return row
}
