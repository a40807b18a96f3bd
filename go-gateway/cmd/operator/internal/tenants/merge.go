package tenants

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"triptych.dev/gateway/internal/plans"
)

// maxFile is what a ConfigMap has room for, with its name and labels; in bytes.
const maxFile = 1_000_000

const fileHead = "# Made by the operator, of plans and Tenants: what is edited here is put back.\n"

// wanted is a tenant as it is asked for.
type wanted struct {
	name, plan string
}

// outcome is what came of it.
type outcome struct {
	// plan is the one in force; empty: gateways do not know the tenant.
	plan string
	// reason is empty where it is as it was asked for.
	reason, message string
}

// merged is a tenants file, and what came of each tenant, by name.
type merged struct {
	// text is empty where there is nothing that gateways could read: then what there is stays.
	text     string
	outcomes map[string]outcome
}

// document is a tenants file of which plans are kept as they were written.
type document struct {
	Plans   map[string]any         `yaml:"plans"`
	Tenants map[string]tenantEntry `yaml:"tenants"`
}

type tenantEntry struct {
	Plan string `yaml:"plan"`
}

// merge makes a tenants file of plans, of which broken says if they cannot be had, and of tenants. What cannot be had as it is asked for
// stays as it is in the file of before: all plans while theirs are broken; of a tenant whose plan is gone, that tenant's.
func merge(plansText string, broken error, before string, tenants []wanted) merged {
	var old document
	if _, err := plans.Parse("the file of before", []byte(before)); err != nil || yaml.Unmarshal([]byte(before), &old) != nil {
		old = document{}
	}
	known, err := map[string]any(nil), broken
	if err == nil {
		known, err = readPlans(plansText)
	}
	result := merged{outcomes: map[string]outcome{}}
	if err != nil {
		known = old.Plans
	}
	file := document{Plans: maps.Clone(known), Tenants: map[string]tenantEntry{}}
	for _, tenant := range slices.SortedFunc(slices.Values(tenants), func(a, b wanted) int { return cmp.Compare(a.name, b.name) }) {
		came := place(tenant, known, old, file)
		if err != nil && came.reason == "" {
			came.reason, came.message = reasonPlansInvalid, fmt.Sprintf("The plans of before stay in force: %v", err)
		}
		result.outcomes[tenant.name] = came
	}
	if len(known) == 0 { // there never were plans
		return result
	}
	text, err := write(file)
	if err != nil {
		for name, came := range result.outcomes {
			result.outcomes[name] = outcome{plan: old.Tenants[name].Plan, reason: cmp.Or(came.reason, reasonPlansInvalid), message: err.Error()}
		}
		return result
	}
	result.text = text
	return result
}

// place puts a tenant into the file, with the plan of before where that which it asks for is not known.
func place(tenant wanted, known map[string]any, old, file document) outcome {
	if err := plans.CheckName(tenant.name, "tenant"); err != nil {
		return outcome{reason: reasonNameInvalid, message: err.Error()}
	}
	if _, is := known[tenant.plan]; is {
		file.Tenants[tenant.name] = tenantEntry{tenant.plan}
		return outcome{plan: tenant.plan}
	}
	came := outcome{reason: reasonPlanUnknown}
	if len(known) == 0 {
		came.reason = reasonPlansInvalid
	}
	before, was := old.Tenants[tenant.name]
	if !was {
		came.message = fmt.Sprintf("There is no plan %q, so gateways do not know the tenant. Plans are: %s", tenant.plan, listed(known))
		return came
	}
	if _, is := file.Plans[before.Plan]; !is {
		file.Plans[before.Plan] = old.Plans[before.Plan]
	}
	file.Tenants[tenant.name] = before
	came.plan = before.Plan
	came.message = fmt.Sprintf("There is no plan %q, so the tenant keeps the plan %q as it was. Plans are: %s", tenant.plan, before.Plan, listed(known))
	return came
}

// listed names plans, as many as can be read.
func listed(known map[string]any) string {
	const most = 20
	names := slices.Sorted(maps.Keys(known))
	switch {
	case len(names) == 0:
		return "none"
	case len(names) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// readPlans reads the part of a tenants file that has its plans. Gateways' own parser is asked whether they would take them.
func readPlans(text string) (map[string]any, error) {
	var read struct {
		Plans map[string]any `yaml:"plans"`
	}
	if err := yaml.UnmarshalWithOptions([]byte(text), &read, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("%s: %w", plansKey, err)
	}
	alone, err := yaml.Marshal(document{Plans: read.Plans, Tenants: map[string]tenantEntry{}})
	if err == nil {
		_, err = plans.Parse(plansKey, alone)
	}
	return read.Plans, err
}

// write returns a file that gateways take. The same content is the same text.
func write(file document) (string, error) {
	text, err := yaml.Marshal(file)
	if err != nil {
		return "", fmt.Errorf("writing the tenants file: %w", err)
	}
	if _, err := plans.Parse(tenantsKey, text); err != nil {
		return "", fmt.Errorf("gateways would not take the tenants file, so it stays as it was: %w", err)
	}
	if len(fileHead)+len(text) > maxFile {
		return "", errors.New("the tenants file would have more than 1,000,000 bytes, which a ConfigMap has no room for, so it stays as it was")
	}
	return fileHead + string(text), nil
}
