package tenants

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"triptych.dev/gateway/cmd/operator/api/v1alpha1"
	"triptych.dev/gateway/internal/adminapi"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

var scheme = sync.OnceValue(func() *runtime.Scheme {
	known := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(known), v1alpha1.AddToScheme(known)); err != nil {
		panic(err)
	}
	return known
})

// bench is a keeper with a Tenant, an API server and a gateway that are not real.
type bench struct {
	testing.TB
	faults  *faults
	client  client.Client // without faults
	gateway *gatewayFake
	clock   time.Time
	keeper  *keeper
	request reconcile.Request
	told    []string // events
}

func (b *bench) Eventf(_, _ runtime.Object, kind, reason, _, note string, args ...any) {
	b.told = append(b.told, kind+" "+reason+" "+fmt.Sprintf(note, args...))
}

var _ events.EventRecorder = (*bench)(nil)

func newBench(t testing.TB, tenant *v1alpha1.Tenant, others ...client.Object) *bench {
	t.Helper()
	b := &bench{TB: t, faults: &faults{}, clock: start}
	now := func() time.Time { return b.clock }
	b.gateway = &gatewayFake{faults: b.faults, now: now, answers: map[string]adminapi.Key{}}
	b.client = fake.NewClientBuilder().WithScheme(scheme()).WithStatusSubresource(tenant).WithObjects(append(others, tenant)...).Build()
	cut := interceptor.NewClient(b.client.(client.WithWatch), interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
			return b.faults.call(func() error { return c.Get(ctx, key, object, options...) })
		},
		Create: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.CreateOption) error {
			return b.faults.call(func() error { return c.Create(ctx, object, options...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, object client.Object, patch client.Patch, options ...client.PatchOption) error {
			return b.faults.call(func() error { return c.Patch(ctx, object, patch, options...) })
		},
		Update: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.UpdateOption) error {
			return b.faults.call(func() error { return c.Update(ctx, object, options...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.DeleteOption) error {
			return b.faults.call(func() error { return c.Delete(ctx, object, options...) })
		},
		SubResourceUpdate: func(ctx context.Context, c client.Client, name string, object client.Object, options ...client.SubResourceUpdateOption) error {
			return b.faults.call(func() error { return c.SubResource(name).Update(ctx, object, options...) })
		},
	})
	b.keeper = &keeper{
		client: cut, secrets: secrets{cut, cut}, gateway: b.gateway, outcomes: &outcomes{}, events: b, retry: newRetry(), now: now,
	}
	b.request = reconcile.Request{NamespacedName: client.ObjectKeyFromObject(tenant)}
	return b
}

func acme() *v1alpha1.Tenant {
	return &v1alpha1.Tenant{
		ObjectMeta: metav1.ObjectMeta{Name: "acme", Namespace: "here", UID: "uid-of-acme", Generation: 1},
		Spec: v1alpha1.TenantSpec{Plan: "small", Key: &v1alpha1.TenantKey{
			SecretName: "acme-key", RotateEvery: &metav1.Duration{Duration: 48 * time.Hour}, Overlap: metav1.Duration{Duration: 24 * time.Hour},
		}},
	}
}

func (b *bench) tenant() *v1alpha1.Tenant {
	b.Helper()
	var found v1alpha1.Tenant
	if err := b.client.Get(b.Context(), b.request.NamespacedName, &found); err != nil {
		b.Fatal(err)
	}
	return &found
}

// change alters the Tenant, as users do.
func (b *bench) change(alter func(*v1alpha1.Tenant)) {
	b.Helper()
	tenant := b.tenant()
	alter(tenant)
	tenant.Generation++
	if err := b.client.Update(b.Context(), tenant); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) secret(name string) (secret, bool) {
	b.Helper()
	found, err := (&secrets{b.client, b.client}).find(b.Context(), acme(), name)
	if err != nil {
		b.Fatal(err)
	}
	return found, found.isThere()
}

// settle looks at the Tenant until nothing is to be done before a long time has passed. Each time the process may be another one.
func (b *bench) settle() {
	b.Helper()
	for range 30 {
		var all v1alpha1.TenantList
		if err := b.client.List(b.Context(), &all); err != nil {
			b.Fatal(err)
		}
		came := map[string]outcome{"acme": {plan: "small"}}
		b.keeper.outcomes.replace(all.Items, came)
		calls := b.faults.calls
		result, err := b.keeper.Reconcile(b.Context(), b.request)
		if err == nil && (result.RequeueAfter == 0 || result.RequeueAfter > lastRetry) && (b.faults.cut <= calls || b.faults.cut > b.faults.calls) {
			return
		}
		b.clock = b.clock.Add(min(result.RequeueAfter, lastRetry))
	}
	b.Fatalf("it does not settle: %+v", b.tenant().Status)
}

// check holds what is true once all has settled: the key in the Secret works with the scopes that are wanted, and no other one works that
// is not told.
func (b *bench) check() {
	b.Helper()
	tenant := b.tenant()
	want := tenant.Spec.Key
	has, is := b.secret(want.SecretName)
	status := tenant.Status
	if !is || status.Key == nil || status.Pending != nil || has.keyID != status.Key.ID || status.Key.SecretName != want.SecretName {
		b.Fatalf("the Secret is %v, the status %+v, its key %+v", has, status, status.Key)
	}
	known := []string{has.keyID}
	for _, one := range status.Previous {
		known = append(known, one.ID)
	}
	slices.Sort(known)
	if works := b.gateway.works(); !slices.Equal(works, known) {
		b.Fatalf("%v work, and %v are told", works, known)
	}
	if has.beforeKey != "" && !slices.Contains(known, has.beforeKey) {
		b.Fatalf("the key before, %s, works no more", has.beforeKey)
	}
	if key, err := b.gateway.find(has.keyID); err != nil || !slices.Equal(key.Scopes, want.Scopes) {
		b.Fatalf("got %+v, %v", key, err)
	}
	if condition := meta.FindStatusCondition(status.Conditions, ready); condition == nil || condition.Status != metav1.ConditionTrue || status.ObservedGeneration != tenant.Generation {
		b.Fatalf("got %+v", status.Conditions)
	}
}

// steps are a tenant's life, each with what is true after it beside what check holds.
var steps = []struct {
	name string
	do   func(*bench)
	want func(b *bench, before, now secret) bool
}{
	{"made", func(*bench) {}, func(b *bench, before, now secret) bool { return now.previous == "" }},
	{"rotated", func(b *bench) { b.clock = b.clock.Add(48 * time.Hour) }, func(b *bench, before, now secret) bool {
		return now.keyID != before.keyID && now.previous == before.key && len(b.gateway.works()) == 2
	}},
	{"the one before has ended", func(b *bench) { b.clock = b.clock.Add(24*time.Hour + time.Minute) }, func(b *bench, before, now secret) bool {
		return now.keyID == before.keyID && now.previous == ""
	}},
	{"other scopes", func(b *bench) {
		b.change(func(t *v1alpha1.Tenant) { t.Spec.Key.Scopes = []string{"class:batch"} })
	}, func(b *bench, before, now secret) bool {
		return now.keyID != before.keyID && now.previous == before.key
	}},
	{"the Secret is deleted", func(b *bench) { b.delete("acme-key") }, func(b *bench, before, now secret) bool {
		return now.keyID != before.keyID && now.previous == "" && len(b.gateway.works()) == 1
	}},
	{"another Secret", func(b *bench) { b.change(func(t *v1alpha1.Tenant) { t.Spec.Key.SecretName = "other" }) }, func(b *bench, before, now secret) bool {
		_, is := b.secret("acme-key")
		return !is && now.previous == before.key
	}},
	{"somebody revokes it", func(b *bench) {
		has, _ := b.secret("other")
		found, _ := b.gateway.find(has.keyID)
		found.Revoked = new(b.clock.Unix())
	}, func(b *bench, before, now secret) bool { return now.keyID != before.keyID }},
	{"somebody edits the Secret", func(b *bench) {
		var found corev1.Secret
		if err := b.client.Get(b.Context(), client.ObjectKey{Namespace: "here", Name: "other"}, &found); err != nil {
			b.Fatal(err)
		}
		found.Data[keyField] = []byte("mine")
		if err := b.client.Update(b.Context(), &found); err != nil {
			b.Fatal(err)
		}
	}, func(b *bench, before, now secret) bool { return now.keyID != before.keyID && now.previous == "" }},
}

func (b *bench) delete(name string) {
	b.Helper()
	if err := b.client.Delete(b.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "here", Name: name}}); err != nil {
		b.Fatal(err)
	}
}

// live lives a tenant's life, of which a call is cut at a step, and returns how many calls that step makes. After the step behind that
// one, the tenant is deleted; with the number of all steps, that is the step.
func live(t testing.TB, at, cut int, effect bool) int {
	b := newBench(t, acme())
	calls := 0
	for i, step := range steps[:min(at+2, len(steps))] {
		before, _ := b.secret(b.tenant().Spec.Key.SecretName)
		step.do(b)
		b.faults.calls, b.faults.cut, b.faults.effect = 0, 0, effect
		if i == at {
			b.faults.cut = cut
		}
		b.settle()
		b.check()
		if i == at {
			calls = b.faults.calls
		}
		now, _ := b.secret(b.tenant().Spec.Key.SecretName)
		if (cut == 0 || i != at) && !step.want(b, before, now) {
			t.Fatalf("%s: from %v with %s to %v with %s", step.name, before, before.beforeKey, now, now.beforeKey)
		}
	}
	if err := b.client.Delete(b.Context(), b.tenant()); err != nil {
		t.Fatal(err)
	}
	b.faults.calls, b.faults.cut = 0, 0
	if at == len(steps) {
		b.faults.cut = cut
	}
	b.settle()
	if at == len(steps) {
		calls = b.faults.calls
	}
	var gone v1alpha1.Tenant
	if err := b.client.Get(b.Context(), b.request.NamespacedName, &gone); !apierrors.IsNotFound(err) {
		t.Fatalf("the tenant is there: %v, %+v", err, gone.Status)
	}
	_, first := b.secret("acme-key")
	if _, other := b.secret("other"); first || other || len(b.gateway.works()) != 0 {
		t.Fatalf("%v work after the tenant is gone", b.gateway.works())
	}
	return calls
}

func TestATenantsLife(t *testing.T) { live(t, len(steps), 0, false) }

// Whichever call's answer does not come, and whether it had its effect or not, all is as it should be in the end.
func TestEachCallMayBeCut(t *testing.T) {
	for at := range len(steps) + 1 {
		calls := live(t, at, 0, false)
		if calls < 3 {
			t.Fatalf("step %d makes %d calls", at, calls)
		}
		for cut := 1; cut <= calls; cut++ {
			for _, effect := range []bool{false, true} {
				t.Run(fmt.Sprintf("step %d, call %d, %v", at, cut, effect), func(t *testing.T) { live(t, at, cut, effect) })
			}
		}
	}
}

func TestAKeyThatIsNoLongerWantedIsRevoked(t *testing.T) {
	b := newBench(t, acme())
	b.settle()
	b.change(func(tenant *v1alpha1.Tenant) { tenant.Spec.Key = nil })
	b.settle()
	tenant := b.tenant()
	if _, is := b.secret("acme-key"); is || len(b.gateway.works()) != 0 || tenant.Status.Key != nil || len(tenant.Finalizers) != 0 {
		t.Errorf("%v work, %+v", b.gateway.works(), tenant)
	}
	if condition := meta.FindStatusCondition(tenant.Status.Conditions, ready); condition.Status != metav1.ConditionTrue {
		t.Errorf("got %+v", condition)
	}
}

func TestASecretOfSomebodyElseStaysAsItIs(t *testing.T) {
	theirs := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "here", Name: "acme-key"}, Data: map[string][]byte{"key": []byte("theirs")}}
	b := newBench(t, acme(), theirs)
	b.look("SecretTaken")
	var found corev1.Secret
	if err := b.client.Get(t.Context(), client.ObjectKeyFromObject(theirs), &found); err != nil || string(found.Data["key"]) != "theirs" || len(found.Labels) != 0 || b.gateway.made != 0 {
		t.Errorf("got %+v, %v, %d keys", found, err, b.gateway.made)
	}
	b.delete("acme-key")
	b.settle()
	b.check()
}

// Whoever may write Secrets could write down another tenant's key there, and have it rotated into their own hands, or revoked.
func TestAKeyOfAnotherTenantInTheSecretStaysAsItIs(t *testing.T) {
	theirs := adminapi.Key{ID: "theirs00", Tenant: "globex"}
	forged := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "here", Name: "acme-key", OwnerReferences: []metav1.OwnerReference{{
			APIVersion: v1alpha1.GroupVersion.String(), Kind: "Tenant", Name: "acme", UID: "uid-of-acme", Controller: new(true),
		}}},
		Data: map[string][]byte{"key": []byte("trip_theirs00_" + strings.Repeat("x", 43)), "previous": []byte("trip_theirs00_" + strings.Repeat("x", 43))},
	}
	b := newBench(t, acme(), forged)
	b.gateway.keys = append(b.gateway.keys, theirs)
	b.settle()
	if has, _ := b.secret("acme-key"); has.keyID != "key00001" || has.previous != "" {
		t.Errorf("got %v", has)
	}
	forged.ResourceVersion = ""
	if err := b.client.Update(t.Context(), forged); err != nil {
		t.Fatal(err)
	}
	if err := b.client.Delete(t.Context(), b.tenant()); err != nil {
		t.Fatal(err)
	}
	b.settle()
	if found, err := b.gateway.find("theirs00"); err != nil || found.Revoked != nil || found.ReplacedBy != "" || !slices.Equal(b.gateway.works(), []string{"theirs00"}) {
		t.Errorf("got %+v, %v, and %v work", found, err, b.gateway.works())
	}
}

// look reconciles once, and wants a reason.
func (b *bench) look(reason string) reconcile.Result {
	b.Helper()
	b.keeper.outcomes.replace([]v1alpha1.Tenant{*b.tenant()}, map[string]outcome{"acme": {plan: "small"}})
	result, err := b.keeper.Reconcile(b.Context(), b.request)
	condition := meta.FindStatusCondition(b.tenant().Status.Conditions, ready)
	if err != nil || condition == nil || condition.Reason != reason || condition.Status != metav1.ConditionFalse || result.RequeueAfter == 0 {
		b.Fatalf("got %+v, %+v, %v", result, condition, err)
	}
	return result
}

func TestAGatewayThatDoesNotDoItIsToldOf(t *testing.T) {
	cases := []struct {
		name, reason string
		refuse       error
	}{
		{"away", "GatewayUnreachable", errCut},
		{"its database is away", "GatewayUnreachable", adminapi.RefusedError{Status: 503, Code: "storage_unavailable", Message: "No."}},
		{"busy", "GatewayUnreachable", adminapi.RefusedError{Status: 409, Code: "idempotency_in_flight", Message: "No."}},
		{"the token is another one", "GatewayRefuses", adminapi.RefusedError{Status: 401, Code: "invalid_api_key", Message: "No."}},
		{"a scope that it does not know", "GatewayRefuses", adminapi.RefusedError{Status: 400, Code: "invalid_value", Param: "scopes", Message: "No."}},
		{"a tenant that it does not know yet", "NotYetKnown", adminapi.RefusedError{Status: 400, Code: "invalid_value", Param: "tenant", Message: "No."}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, acme())
			b.gateway.refuse = c.refuse
			waits := []time.Duration{}
			for range 8 {
				waits = append(waits, b.look(c.reason).RequeueAfter)
			}
			if !slices.IsSorted(waits) || waits[0] != firstRetry || waits[7] != lastRetry {
				t.Errorf("it waits for %v", waits)
			}
			if told := strings.Join(b.told, "\n"); strings.Count(told, c.reason) != 1 {
				t.Errorf("told %s", told)
			}
			b.gateway.refuse = nil
			b.settle()
			b.check()
			if b.gateway.made != 1 {
				t.Errorf("%d keys were made", b.gateway.made)
			}
		})
	}
}

func TestScopesThatWereRefusedMayBeMended(t *testing.T) {
	b := newBench(t, acme())
	b.change(func(tenant *v1alpha1.Tenant) { tenant.Spec.Key.Scopes = []string{"no such"} })
	b.gateway.refuse = adminapi.RefusedError{Status: 400, Code: "invalid_value", Param: "scopes", Message: "No."}
	b.look("GatewayRefuses")
	b.change(func(tenant *v1alpha1.Tenant) { tenant.Spec.Key.Scopes = []string{"class:batch"} })
	b.gateway.refuse = nil
	b.settle()
	b.check()
}

func TestATenantWithoutAPlanHasNoKeyAndNoFinalizer(t *testing.T) {
	b := newBench(t, acme())
	b.keeper.outcomes.replace([]v1alpha1.Tenant{*b.tenant()}, map[string]outcome{"acme": {reason: "PlanUnknown", message: "There is none."}})
	if _, err := b.keeper.Reconcile(t.Context(), b.request); err != nil {
		t.Fatal(err)
	}
	tenant := b.tenant()
	if condition := meta.FindStatusCondition(tenant.Status.Conditions, ready); condition.Reason != "PlanUnknown" || len(tenant.Finalizers) != 0 || b.gateway.made != 0 {
		t.Errorf("got %+v", tenant)
	}
}
