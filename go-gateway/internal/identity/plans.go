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

// mostRequests bounds the numbers of a plan: beyond, a limit is no limit.
const mostRequests = 1_000_000

// readTenants reads a tenants file and returns every fault of it together.
func readTenants(path string) (map[string]Tenant, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var document any
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&document); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := decoder.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: there is more than one YAML document", path)
	}
	reader := tenantsReader{path: path}
	tenants := reader.read(document)
	return tenants, errors.Join(reader.faults...)
}

// tenantsReader walks the document and collects faults, so that one run shows them all.
type tenantsReader struct {
	path   string
	faults []error
}

func (r *tenantsReader) fault(format string, args ...any) {
	r.faults = append(r.faults, fmt.Errorf("%s: %s", r.path, fmt.Sprintf(format, args...)))
}

func (r *tenantsReader) read(document any) map[string]Tenant {
	root := r.object("the file", document, "plans", "tenants")
	plans := map[string]Plan{}
	for name, value := range r.named(root, "plans") {
		at := "plans." + name
		fields := r.object(at, value, "requests_per_minute", "request_burst")
		plan := Plan{Name: name, RequestsPerMinute: r.number(at, fields, "requests_per_minute", 0)}
		plan.RequestBurst = r.number(at, fields, "request_burst", plan.RequestsPerMinute)
		plans[name] = plan
	}
	tenants := map[string]Tenant{}
	for name, value := range r.named(root, "tenants") {
		at := "tenants." + name
		planName, _ := r.object(at, value, "plan")["plan"].(string)
		plan, known := plans[planName]
		if !known {
			r.fault("%s.plan must name one of plans, not %q", at, planName)
		}
		tenants[name] = Tenant{Name: name, Plan: plan}
	}
	return tenants
}

// object returns a mapping's fields; anything else and every unknown field is a fault.
func (r *tenantsReader) object(at string, value any, known ...string) map[string]any {
	fields, ok := value.(map[string]any)
	if !ok {
		r.fault("%s must be a mapping with %q", at, known)
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !slices.Contains(known, name) {
			r.fault("%s has an unknown field %q; known are %q", at, name, known)
		}
	}
	return fields
}

// named yields the entries of a required mapping from names, in the names' order.
func (r *tenantsReader) named(root map[string]any, field string) iter.Seq2[string, any] {
	entries, ok := root[field].(map[string]any)
	if root != nil && (!ok || len(entries) == 0) {
		r.fault("%s must be a mapping with at least one entry", field)
	}
	return func(yield func(string, any) bool) {
		for _, name := range slices.Sorted(maps.Keys(entries)) {
			if err := checkName(name, field+":"); err != nil {
				r.fault("%v", err)
			}
			if !yield(name, entries[name]) {
				return
			}
		}
	}
}

// number returns a whole number from 1 to mostRequests; absent is preset, and a fault where preset is 0.
func (r *tenantsReader) number(at string, fields map[string]any, name string, preset int) int {
	value, present := fields[name]
	if !present && (preset > 0 || fields == nil) {
		return preset
	}
	number, ok := value.(uint64)
	if !ok || number < 1 || number > mostRequests {
		r.fault("%s.%s must be a whole number from 1 to %d, not %v", at, name, mostRequests, value)
		return preset
	}
	return int(number)
}
