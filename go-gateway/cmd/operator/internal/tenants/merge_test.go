package tenants

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"triptych.dev/gateway/internal/plans"
)

const twoPlans = `
plans:
  generous: # a comment
    weight: 2
    requests_per_minute: 600_000
    tokens_per_day: 10_000_000_000
    batch: {requests_per_minute: 60}
  small: &small {requests_per_minute: 20, key: {requests_per_minute: 0x10}}
`

const onePlan = "plans: {generous: {requests_per_minute: 7}}"

func file(t *testing.T, text string) plans.File {
	t.Helper()
	read, err := plans.Parse("file", []byte(text))
	if err != nil {
		t.Fatalf("gateways do not take it: %v\n%s", err, text)
	}
	return read
}

func TestMerge(t *testing.T) {
	inForce := merge(twoPlans, nil, "", []wanted{{"acme", "generous"}, {"tiny", "small"}}).text
	cases := []struct {
		name, plans string
		broken      error
		before      string
		tenants     []wanted
		want        map[string]string // tenant → its plan and its rate
		reasons     map[string]string // of those that are not as they were asked for, with a part of the message
	}{
		{"a first one", twoPlans, nil, "", []wanted{{"tiny", "small"}, {"acme", "generous"}},
			map[string]string{"acme": "generous 600000", "tiny": "small 20"}, nil},
		{"none", twoPlans, nil, inForce, nil, map[string]string{}, nil},
		{"a plan that there is not, of one that was not in", twoPlans, nil, "", []wanted{{"acme", "generous"}, {"new", "huge"}},
			map[string]string{"acme": "generous 600000"}, map[string]string{"new": `PlanUnknown: There is no plan "huge", so gateways do not know the tenant. Plans are: generous, small`}},
		{"and of one that was", twoPlans, nil, inForce, []wanted{{"acme", "huge"}, {"tiny", "small"}},
			map[string]string{"acme": "generous 600000", "tiny": "small 20"}, map[string]string{"acme": `PlanUnknown: There is no plan "huge", so the tenant keeps the plan "generous"`}},
		{"a plan that is gone stays for who had it, and is nobody else's", onePlan, nil, inForce, []wanted{{"acme", "generous"}, {"new", "small"}, {"tiny", "small"}},
			map[string]string{"acme": "generous 7", "tiny": "small 20"},
			map[string]string{"new": "PlanUnknown: There is no plan \"small\", so gateways do not", "tiny": "PlanUnknown: There is no plan \"small\", so the tenant keeps"}},
		{"plans that are broken", "plans: {small: {requests: 1}}", nil, inForce, []wanted{{"acme", "small"}, {"new", "small"}},
			map[string]string{"acme": "small 20", "new": "small 20"},
			map[string]string{"acme": "PlansInvalid: The plans of before stay in force: plans.yaml:", "new": `unknown field "requests"`}},
		{"plans with tenants", twoPlans + "tenants: {acme: {plan: small}}", nil, inForce, []wanted{{"acme", "generous"}},
			map[string]string{"acme": "generous 600000"}, map[string]string{"acme": `unknown field "tenants"`}},
		{"plans that are missing", "", errors.New("there is no ConfigMap p"), inForce, []wanted{{"acme", "generous"}, {"new", "huge"}},
			map[string]string{"acme": "generous 600000"}, map[string]string{"acme": "PlansInvalid: The plans of before stay in force: there is no ConfigMap p", "new": "PlanUnknown"}},
		{"plans that never were", "", errors.New("there is no ConfigMap p"), "", []wanted{{"acme", "generous"}},
			nil, map[string]string{"acme": "PlansInvalid"}},
		{"an empty text", "", nil, "", []wanted{{"acme", "generous"}}, nil, map[string]string{"acme": "PlansInvalid"}},
		{"a file of before that is none", twoPlans, nil, "plans: [", []wanted{{"acme", "generous"}, {"tiny", "huge"}},
			map[string]string{"acme": "generous 600000"}, map[string]string{"tiny": "PlanUnknown"}},
		{"a name that gateways do not take", twoPlans, nil, inForce, []wanted{{strings.Repeat("a", 65), "small"}},
			map[string]string{}, map[string]string{strings.Repeat("a", 65): "NameInvalid: tenant"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := merge(c.plans, c.broken, c.before, c.tenants)
			if (got.text == "") != (c.want == nil) {
				t.Fatalf("got the text %q", got.text)
			}
			if c.want != nil {
				read := file(t, got.text)
				for name, tenant := range read.Tenants {
					if is := fmt.Sprintf("%s %d", tenant.Plan.Name, tenant.Plan.Tenant[0].RequestsPerMinute); is != c.want[name] {
						t.Errorf("%s has the plan %s, and not %q", name, is, c.want[name])
					}
				}
				if len(read.Tenants) != len(c.want) {
					t.Errorf("got %v", read.Tenants)
				}
			}
			for _, tenant := range c.tenants {
				came := got.outcomes[tenant.name]
				told := fmt.Sprintf("%s: %s", came.reason, came.message)
				if want := c.reasons[tenant.name]; (came.reason == "") != (want == "") || !strings.Contains(told, want) {
					t.Errorf("of %s it tells %q", tenant.name, told)
				}
				if plan, _, _ := strings.Cut(c.want[tenant.name], " "); came.plan != plan {
					t.Errorf("of %s it tells the plan %q", tenant.name, came.plan)
				}
			}
		})
	}
}

func TestMergeKeepsAllThatAPlanSays(t *testing.T) {
	want, err := plans.Parse("", []byte(twoPlans+"tenants: {acme: {plan: generous}, tiny: {plan: small}}"))
	if err != nil {
		t.Fatal(err)
	}
	got := file(t, merge(twoPlans, nil, "", []wanted{{"acme", "generous"}, {"tiny", "small"}}).text)
	for name, tenant := range want.Tenants {
		if got.Tenants[name] != tenant {
			t.Errorf("got %+v, and not %+v", got.Tenants[name], tenant)
		}
	}
}

func TestMergeMakesNoFileThatAConfigMapHasNoRoomFor(t *testing.T) {
	many := make([]wanted, 14_000)
	for i := range many {
		many[i] = wanted{fmt.Sprintf("%058d-%d", 0, i), "small"}
	}
	before := merge(twoPlans, nil, "", many[:1]).text
	got := merge(twoPlans, nil, before, many)
	in, out := got.outcomes[many[0].name], got.outcomes[many[1].name]
	if got.text != "" || !strings.Contains(in.message, "1,000,000 bytes") || in.plan != "small" || out.plan != "" || out.reason == "" {
		t.Errorf("got %d bytes, %+v, %+v", len(got.text), in, out)
	}
}

// Whatever comes after what: gateways take the file, the order of tenants is nothing to it, and to make it again changes nothing.
func TestMergeOfAnything(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	sources := []string{twoPlans, onePlan, "plans: {huge: {requests_per_minute: 1}}", "plans: {}", "]", ""}
	names := []string{"acme", "globex", "initech", "tiny"}
	planNames := []string{"generous", "small", "huge", "none"}
	before := ""
	for range 2000 {
		var tenants []wanted
		for _, name := range names {
			if chance.IntN(3) > 0 {
				tenants = append(tenants, wanted{name, planNames[chance.IntN(len(planNames))]})
			}
		}
		source, broken := sources[chance.IntN(len(sources))], error(nil)
		if chance.IntN(4) == 0 {
			broken = errors.New("away")
		}
		got := merge(source, broken, before, tenants)
		shuffled := slices.Clone(tenants)
		chance.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if other := merge(source, broken, before, shuffled); other.text != got.text {
			t.Fatalf("another order made\n%s\nof\n%s", other.text, got.text)
		}
		if got.text == "" {
			if before != "" {
				t.Fatalf("%q made no file, and there was\n%s", source, before)
			}
			continue
		}
		read := file(t, got.text)
		for _, tenant := range tenants {
			if _, is := read.Tenants[tenant.name]; is != (got.outcomes[tenant.name].plan != "") || is && read.Tenants[tenant.name].Plan.Name != got.outcomes[tenant.name].plan {
				t.Fatalf("of %s it tells %+v\n%s", tenant.name, got.outcomes[tenant.name], got.text)
			}
		}
		if before != "" {
			for name := range file(t, before).Tenants {
				if _, is := read.Tenants[name]; !is && slices.ContainsFunc(tenants, func(one wanted) bool { return one.name == name }) {
					t.Fatalf("%s was thrown out", name)
				}
			}
		}
		if again := merge(source, broken, got.text, tenants); again.text != got.text {
			t.Fatalf("once more made\n%s\nof\n%s", again.text, got.text)
		}
		before = got.text
	}
}
