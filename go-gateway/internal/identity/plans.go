package identity

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"slices"
	"strconv"

	"github.com/goccy/go-yaml"
)

// Plan is what its tenants may do. Limits on tokens and on concurrent requests will be further fields.
type Plan struct {
	Name string
	// RequestsPerMinute is how fast requests are given back.
	RequestsPerMinute int
	// RequestBurst is how many may come at once.
	RequestBurst int
}

// Tenant is somebody with keys and a plan.
type Tenant struct {
	Name string
	Plan Plan
}

// maxRequests bounds the numbers of a plan: beyond, a limit is no limit.
const maxRequests = 1_000_000

// tenantsFile is the file as it is written.
type tenantsFile struct {
	Plans map[string]struct {
		RequestsPerMinute number `yaml:"requests_per_minute"`
		RequestBurst      number `yaml:"request_burst"` // absent: as many as in a minute
	} `yaml:"plans"`
	Tenants map[string]struct {
		Plan string `yaml:"plan"`
	} `yaml:"tenants"`
}

// number is a number as it is written: the parser would take 1.5 for 1.
type number string

// UnmarshalYAML implements yaml.BytesUnmarshaler.
func (n *number) UnmarshalYAML(text []byte) error {
	*n = number(bytes.TrimSpace(text))
	return nil
}

// readTenants reads a tenants file. A fault of its form is told alone, with its line; those of what it says together.
func readTenants(path string) (map[string]Tenant, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var file tenantsFile
	decoder := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict())
	if err := decoder.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := decoder.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: there is more than one YAML document", path)
	}
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
	}
	plans := map[string]Plan{}
	for name, written := range named(file.Plans, "plans", fault) {
		plan := Plan{Name: name, RequestsPerMinute: written.RequestsPerMinute.read("plans."+name+".requests_per_minute", fault)}
		plan.RequestBurst = plan.RequestsPerMinute
		if written.RequestBurst != "" {
			plan.RequestBurst = written.RequestBurst.read("plans."+name+".request_burst", fault)
		}
		plans[name] = plan
	}
	tenants := map[string]Tenant{}
	for name, written := range named(file.Tenants, "tenants", fault) {
		plan, known := plans[written.Plan]
		if !known {
			fault("tenants.%s.plan must name one of plans, not %q", name, written.Plan)
		}
		tenants[name] = Tenant{Name: name, Plan: plan}
	}
	return tenants, errors.Join(faults...)
}

// named yields the entries of a required mapping from names, in the names' order.
func named[Entry any](entries map[string]Entry, field string, fault func(string, ...any)) iter.Seq2[string, Entry] {
	if len(entries) == 0 {
		fault("%s must be a mapping with at least one entry", field)
	}
	return func(yield func(string, Entry) bool) {
		for _, name := range slices.Sorted(maps.Keys(entries)) {
			if err := checkName(name, field+":"); err != nil {
				fault("%v", err)
			}
			if !yield(name, entries[name]) {
				return
			}
		}
	}
}

// read returns a whole number from 1 to maxRequests.
func (n number) read(at string, fault func(string, ...any)) int {
	parsed, err := strconv.ParseUint(string(n), 0, 64)
	if err != nil || parsed < 1 || parsed > maxRequests {
		fault("%s must be a whole number from 1 to %d, not %s", at, maxRequests, n)
	}
	return int(parsed)
}
