package plans

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/quota"
)

func TestParse(t *testing.T) {
	got, err := Parse("tenants.yaml", []byte(`
plans:
  standard: {requests_per_minute: 600, request_burst: 60}
  tiny:
    requests_per_minute: 20 # and a burst of as many
  large: {requests_per_minute: 200_000}
  all:
    weight: 4
    max_seconds: 90
    stored_bytes: 5_000
    stored_files: 6
    retention_hours: {files: 1, batches: 48}
    requests_per_minute: 1
    tokens_per_minute: 2
    tokens_per_day: 30_000
    concurrent_requests: 4
    concurrent_streams: 3
    tokens_per_request: 2
    batch: {requests_per_minute: 5, tokens_per_day: 6}
    key:
      tokens_per_minute: 7
      batch: {concurrent_requests: 8}
tenants:
  acme: {plan: standard}
  tiny: {plan: tiny}
  initech: {plan: large}
  globex: {plan: all}
`))
	of := func(rate, burst, batch int64) ClassLimits { // of batch there are more requests, up to what a limit may be
		return ClassLimits{{RequestsPerMinute: rate, RequestBurst: burst}, {RequestsPerMinute: batch, RequestBurst: 10 * burst}}
	}
	want := map[string]Tenant{
		"acme":    {"acme", Plan{Name: "standard", StoredBytes: 20 << 30, StoredFiles: 10_000, Tenant: of(600, 60, 6000)}},
		"tiny":    {"tiny", Plan{Name: "tiny", StoredBytes: 20 << 30, StoredFiles: 10_000, Tenant: of(20, 0, 200)}},
		"initech": {"initech", Plan{Name: "large", StoredBytes: 20 << 30, StoredFiles: 10_000, Tenant: of(200_000, 0, 1_000_000)}},
		"globex": {"globex", Plan{
			Name: "all", Weight: 4, MaxSeconds: 90, StoredBytes: 5000, StoredFiles: 6, Retention: Retention{Files: time.Hour, Batches: 48 * time.Hour},
			Tenant: ClassLimits{
				{RequestsPerMinute: 1, TokensPerMinute: 2, TokensPerDay: 30_000, ConcurrentRequests: 4, ConcurrentStreams: 3, TokensPerRequest: 2},
				{RequestsPerMinute: 5, TokensPerDay: 6},
			},
			Key: ClassLimits{{TokensPerMinute: 7}, {ConcurrentRequests: 8}},
		}},
	}
	if err != nil || !maps.Equal(got.Tenants, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestParseReportsAllFaults(t *testing.T) {
	cases := []struct {
		name, content string
		faults        []string
	}{
		{"everything at once", `
plans:
  a: {requests_per_minute: 0}
  b: {requests_per_minute: many, request_burst: -1}
  c: {}
  d: {requests_per_minute: 1000001}
  E: {requests_per_minute: 1}
  g: {requests_per_minute: 1.5}
  h: {requests_per_minute: 1, weight: 17, max_seconds: 86401, stored_bytes: 0, stored_files: 1000001, retention_hours: {jobs: 87601, files: 0}, tokens_per_minute: 100000001, batch: {tokens_per_day: none}, key: {request_burst: 5}}
  i: {requests_per_minute: 1, tokens_per_minute: 5, tokens_per_request: 6, key: {batch: {concurrent_requests: 1, concurrent_streams: 2}}}
tenants:
  acme: {plan: none}
  globex: {}
  "": {plan: a}
`, []string{
			"plans.a.requests_per_minute must be a whole number from 1 to 1000000, not 0",
			"plans.b.requests_per_minute", "plans.b.request_burst", "plans.c.requests_per_minute",
			"plans.d.requests_per_minute", `plans: "E"`, "plans.g.requests_per_minute",
			"plans.h.weight must be a whole number from 1 to 16, not 17",
			"plans.h.max_seconds must be a whole number from 1 to 86400, not 86401",
			"plans.h.stored_bytes must be a whole number from 1 to 1125899906842624, not 0",
			"plans.h.stored_files must be a whole number from 1 to 1000000, not 1000001",
			"plans.h.retention_hours.files must be a whole number from 1 to 87600, not 0",
			"plans.h.retention_hours.jobs must be a whole number from 1 to 87600, not 87601",
			"plans.h.tokens_per_minute must be a whole number from 1 to 100000000, not 100000001",
			"plans.h.batch.tokens_per_day must be", "plans.h.key.request_burst needs plans.h.key.requests_per_minute beside it",
			"plans.i.tokens_per_request is 6, more than plans.i.tokens_per_minute (5) ever admits",
			"plans.i.key.batch.concurrent_streams is 2, more than plans.i.key.batch.concurrent_requests (1) ever admits",
			`tenants.acme.plan must name one of plans, not "none"`, "tenants.globex.plan", `tenants: ""`,
		}},
		{"an unknown field of a plan", "plans:\n  d: {requests_per_minute: 1, tokens_per_hour: 5}", []string{`[2:31] unknown field "tokens_per_hour"`}},
		{"an unknown field of a key", "plans:\n  d: {requests_per_minute: 1, key: {burst: 5}}", []string{`[2:37] unknown field "burst"`}},
		{"an unknown field of batch", "plans:\n  d: {requests_per_minute: 1, batch: {key: {}}}", []string{`[2:39] unknown field "key"`}},
		{"an unknown field", "more: 1", []string{`[1:1] unknown field "more"`}},
		{"a plan that is a number", "plans: {f: 7}", []string{"[1:12]", "mapping is expected"}},
		{"a tenant that is a list", "tenants: {tiny: [a]}", []string{"[1:17]", "mapping is expected"}},
		{"a number that is a list", "plans: {a: {requests_per_minute: [1]}}", []string{"plans.a.requests_per_minute must be a whole number"}},
		{"a number that is a text", "plans: {a: {requests_per_minute: \"5\"}}", []string{"plans.a.requests_per_minute must be a whole number"}},
		{"empty", "", []string{"plans must be a mapping", "tenants must be a mapping"}},
		{"list", "[]", []string{"mapping is expected"}},
		{"no tenants", "plans: {a: {requests_per_minute: 1}}", []string{"tenants must be a mapping; where there is none"}},
		{"empty plans", "plans: {}\ntenants: {}", []string{"plans must be"}},
		{"tenants without a word", "plans: {a: {requests_per_minute: 1}}\ntenants:", []string{"tenants must be"}},
		{"twice", "plans: {a: {requests_per_minute: 1}}\nplans: {a: {requests_per_minute: 2}}\ntenants: {a: {plan: a}}", []string{"plans"}},
		{"two documents", "plans: {a: {requests_per_minute: 1}}\ntenants: {a: {plan: a}}\n---\nplans: {}", []string{"more than one"}},
		{"no YAML", "plans: [", []string{"tenants.yaml"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := Parse("tenants.yaml", []byte(c.content))
			if err == nil {
				t.Fatalf("accepted: %+v", got)
			}
			for _, part := range c.faults {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q is missing from:\n%v", part, err)
				}
			}
		})
	}
	if got, err := Parse("tenants.yaml", []byte("plans: {a: {requests_per_minute: 1}}\ntenants: {}")); err != nil || len(got.Plans) != 1 {
		t.Errorf("tenants that are none, by word: %+v, %v", got, err)
	}
	if _, err := Read(filepath.Join(t.TempDir(), "none.yaml")); !os.IsNotExist(err) {
		t.Errorf("no file: %v", err)
	}
}

func FuzzTenantsFile(f *testing.F) {
	f.Add("plans: {a: {requests_per_minute: 1}}\ntenants: {a: {plan: a}}")
	f.Add("plans: &p {a: *p}\n? [x]\n: !!binary |")
	f.Fuzz(func(t *testing.T, content string) {
		file, err := Parse("tenants.yaml", []byte(content))
		for name, tenant := range file.Tenants {
			if err == nil && (tenant.Plan.Tenant[quota.Interactive].RequestsPerMinute < 1 || tenant.Plan.Tenant[quota.Batch].RequestsPerMinute < 1 || !nameShape.MatchString(name)) {
				t.Errorf("%q gave %+v", content, tenant)
			}
		}
	})
}
