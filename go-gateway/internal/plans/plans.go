// Package plans reads a tenants file: which tenants there are, and what their plans let them do. Gateways read it, and the
// operator, which writes it.
//
// It must not depend on who is let in, nor on what keeps it.
package plans

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"

	"github.com/goccy/go-yaml"

	"triptych.dev/gateway/internal/quota"
)

// Plan is what its tenants may do.
type Plan struct {
	Name string
	// Weight is how large its tenants' turns are beside others'; 0 counts as 1.
	Weight int
	// MaxSeconds is how long a request may take; 0: as long as the gateway's settings let it.
	MaxSeconds int
	// StoredBytes and StoredFiles are what the tenant's files may come to.
	StoredBytes, StoredFiles int64
	// EnqueuedTokens are what the tenant's batches that have not ended may come to, a byte for a token; 0: no limit.
	EnqueuedTokens int64
	// Retention is of the tenant's files, batches and jobs.
	Retention Retention
	// Tenant is what all keys of a tenant may use together, Key what each of them may.
	Tenant, Key ClassLimits
}

// ClassLimits are limits of each class of calls.
type ClassLimits [quota.Classes]quota.Limits

// Limits are those of a class, of the tenant and of a key.
func (p Plan) Limits(class quota.Class) [quota.Scopes]quota.Limits {
	return [quota.Scopes]quota.Limits{quota.Tenant: p.Tenant[class], quota.Key: p.Key[class]}
}

// Tenant is somebody with keys and a plan.
type Tenant struct {
	Name string
	Plan Plan
}

const (
	maxWeight = 16 // the contract's bound
	// batchRequests is how many times the plan's rate of requests that of batch is, where a plan does not say: a batch has a
	// request for each of up to 50,000 lines, and gives way to whoever waits.
	batchRequests = 10
	// MaxRequestSeconds is the longest time that a plan or a client may give a request: more than anything here takes.
	MaxRequestSeconds = 86_400
	// Of files: some fifty of the largest that are run as a batch, with what comes out of them; and bounds that keep
	// numbers and lists sound.
	defaultStoredBytes, maxStoredBytes = 20 << 30, 1 << 50
	defaultStoredFiles, maxStoredFiles = 10_000, 1_000_000
)

// written is the file as it is written.
type written struct {
	Plans   map[string]writtenPlan `yaml:"plans"`
	Tenants map[string]struct {
		Plan string `yaml:"plan"`
	} `yaml:"tenants"`
}

// writtenPlan has the limits of its tenants' interactive requests, and the others by name.
type writtenPlan struct {
	Weight      number           `yaml:"weight"`
	MaxSeconds  number           `yaml:"max_seconds"`
	StoredBytes number           `yaml:"stored_bytes"`
	StoredFiles number           `yaml:"stored_files"`
	Retention   writtenRetention `yaml:"retention_hours"`
	Limits      writtenLimits    `yaml:",inline"`
	Batch       *writtenBatch    `yaml:"batch"`
	Key         *struct {
		Limits writtenLimits  `yaml:",inline"`
		Batch  *writtenLimits `yaml:"batch"`
	} `yaml:"key"`
}

// writtenBatch has the limits of a tenant's requests of the class batch, and that of what waits to be one.
type writtenBatch struct {
	Limits         writtenLimits `yaml:",inline"`
	EnqueuedTokens number        `yaml:"enqueued_tokens"`
}

// writtenLimits are those of one class. Absent is none.
type writtenLimits struct {
	RequestsPerMinute  number `yaml:"requests_per_minute"`
	RequestBurst       number `yaml:"request_burst"` // absent: as many as in a minute
	TokensPerMinute    number `yaml:"tokens_per_minute"`
	TokensPerDay       number `yaml:"tokens_per_day"`
	ConcurrentRequests number `yaml:"concurrent_requests"`
	ConcurrentStreams  number `yaml:"concurrent_streams"`
	TokensPerRequest   number `yaml:"tokens_per_request"`
}

// number is a number as it is written: the parser would take 1.5 for 1.
type number string

// UnmarshalYAML implements yaml.BytesUnmarshaler.
func (n *number) UnmarshalYAML(text []byte) error {
	*n = number(bytes.TrimSpace(text))
	return nil
}

// File is what a tenants file says, by name.
type File struct {
	Plans   map[string]Plan
	Tenants map[string]Tenant
}

// Read reads a tenants file.
func Read(path string) (File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return File{}, err
	}
	return Parse(path, data)
}

// Parse reads what is in a tenants file. A fault of its form is told alone, with its line; those of what it says together.
func Parse(path string, data []byte) (File, error) {
	var file written
	decoder := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict())
	if err := decoder.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return File{}, fmt.Errorf("%s: %w", path, err)
	}
	if err := decoder.Decode(new(any)); !errors.Is(err, io.EOF) {
		return File{}, fmt.Errorf("%s: there is more than one YAML document", path)
	}
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
	}
	if len(file.Plans) == 0 {
		fault("plans must be a mapping with at least one entry")
	}
	// An empty one is meant where it is written, as where all tenants come from tokens, or the last one has gone.
	if file.Tenants == nil {
		fault("tenants must be a mapping; where there is none, write: tenants: {}")
	}
	plans := map[string]Plan{}
	for name, written := range named(file.Plans, "plans", fault) {
		plans[name] = written.read(name, fault)
	}
	tenants := map[string]Tenant{}
	for name, written := range named(file.Tenants, "tenants", fault) {
		plan, known := plans[written.Plan]
		if !known {
			fault("tenants.%s.plan must name one of plans, not %q", name, written.Plan)
		}
		tenants[name] = Tenant{Name: name, Plan: plan}
	}
	return File{plans, tenants}, errors.Join(faults...)
}

// named yields the entries of a mapping from names, in the names' order.
func named[Entry any](entries map[string]Entry, field string, fault func(string, ...any)) iter.Seq2[string, Entry] {
	return func(yield func(string, Entry) bool) {
		for _, name := range slices.Sorted(maps.Keys(entries)) {
			if err := CheckName(name, field+":"); err != nil {
				fault("%v", err)
			}
			if !yield(name, entries[name]) {
				return
			}
		}
	}
}

// read returns the plan of a name.
func (w writtenPlan) read(name string, fault func(string, ...any)) Plan {
	at := "plans." + name
	plan := Plan{
		Name: name, Weight: int(w.Weight.read(at+".weight", maxWeight, fault)),
		MaxSeconds:  int(w.MaxSeconds.read(at+".max_seconds", MaxRequestSeconds, fault)),
		StoredBytes: cmp.Or(w.StoredBytes.read(at+".stored_bytes", maxStoredBytes, fault), defaultStoredBytes),
		StoredFiles: cmp.Or(w.StoredFiles.read(at+".stored_files", maxStoredFiles, fault), defaultStoredFiles),
		Retention:   w.Retention.read(at+".retention_hours", fault),
	}
	if w.Limits.RequestsPerMinute == "" {
		fault("%s.requests_per_minute is required: a whole number from 1 to %d", at, quota.MaxRequestsPerMinute)
	}
	plan.Tenant[quota.Interactive] = w.Limits.read(at, fault)
	if w.Batch != nil {
		plan.Tenant[quota.Batch] = w.Batch.Limits.read(at+".batch", fault)
		plan.EnqueuedTokens = w.Batch.EnqueuedTokens.read(at+".batch.enqueued_tokens", quota.MaxTokensPerDay, fault)
	}
	if batch := &plan.Tenant[quota.Batch]; batch.RequestsPerMinute == 0 { // no class is without a limit of requests
		interactive := plan.Tenant[quota.Interactive]
		batch.RequestsPerMinute = min(batchRequests*interactive.RequestsPerMinute, quota.MaxRequestsPerMinute)
		batch.RequestBurst = min(batchRequests*interactive.RequestBurst, quota.MaxRequestsPerMinute)
	}
	if w.Key != nil {
		plan.Key[quota.Interactive] = w.Key.Limits.read(at+".key", fault)
		plan.Key[quota.Batch] = w.Key.Batch.read(at+".key.batch", fault)
	}
	return plan
}

// read returns limits; of none, none.
func (w *writtenLimits) read(at string, fault func(string, ...any)) quota.Limits {
	if w == nil {
		return quota.Limits{}
	}
	if w.RequestBurst != "" && w.RequestsPerMinute == "" {
		fault("%s.request_burst needs %s.requests_per_minute beside it", at, at)
	}
	limits := quota.Limits{
		RequestsPerMinute:  w.RequestsPerMinute.read(at+".requests_per_minute", quota.MaxRequestsPerMinute, fault),
		RequestBurst:       w.RequestBurst.read(at+".request_burst", quota.MaxRequestsPerMinute, fault),
		TokensPerMinute:    w.TokensPerMinute.read(at+".tokens_per_minute", quota.MaxTokensPerMinute, fault),
		TokensPerDay:       w.TokensPerDay.read(at+".tokens_per_day", quota.MaxTokensPerDay, fault),
		ConcurrentRequests: w.ConcurrentRequests.read(at+".concurrent_requests", quota.MaxConcurrent, fault),
		ConcurrentStreams:  w.ConcurrentStreams.read(at+".concurrent_streams", quota.MaxConcurrent, fault),
		TokensPerRequest:   w.TokensPerRequest.read(at+".tokens_per_request", quota.MaxTokensPerDay, fault),
	}
	for field, more := range map[string]int64{"tokens_per_minute": limits.TokensPerMinute, "tokens_per_day": limits.TokensPerDay} {
		if more > 0 && limits.TokensPerRequest > more {
			fault("%s.tokens_per_request is %d, more than %s.%s (%d) ever admits", at, limits.TokensPerRequest, at, field, more)
		}
	}
	if limits.ConcurrentRequests > 0 && limits.ConcurrentStreams > limits.ConcurrentRequests {
		fault("%s.concurrent_streams is %d, more than %s.concurrent_requests (%d) ever admits: a stream is a request too",
			at, limits.ConcurrentStreams, at, limits.ConcurrentRequests)
	}
	return limits
}

// read returns a whole number from 1 to most; 0 where nothing is written.
func (n number) read(at string, most int64, fault func(string, ...any)) int64 {
	if n == "" {
		return 0
	}
	parsed, err := strconv.ParseInt(string(n), 0, 64)
	if err != nil || parsed < 1 || parsed > most {
		fault("%s must be a whole number from 1 to %d, not %s", at, most, n)
		return 0
	}
	return parsed
}

var nameShape = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// CheckName refuses what cannot be the name of a tenant or a plan. what says of what it is.
func CheckName(name, what string) error {
	if !nameShape.MatchString(name) {
		return fmt.Errorf("%s %q: a name is 1 to 64 of a-z, 0-9, '.', '-' and '_', and begins with a letter or digit", what, name)
	}
	return nil
}
