package models

import (
	"context"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"triptych.dev/gateway/cmd/operator/api/v1alpha1"
	"triptych.dev/gateway/cmd/operator/internal/live"
)

// lagging is a client whose cache has a Model as it was once; nil: as it is.
type lagging struct {
	client.Client
	model *v1alpha1.Model
}

func (l *lagging) Get(ctx context.Context, key client.ObjectKey, into client.Object, options ...client.GetOption) error {
	if model, is := into.(*v1alpha1.Model); is && l.model != nil {
		l.model.DeepCopyInto(model)
		return nil
	}
	return l.Client.Get(ctx, key, into, options...)
}

// A status that was decided on already would be no conflict when it is decided on once more: nothing of it is written.
func TestACacheThatLagsTakesNothingBack(t *testing.T) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	model := tried(nil)
	model.Namespace, model.UID = "n", "uid"
	server := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(model).WithObjects(model).Build()
	cached := &lagging{Client: server}
	r := &Reconciler{
		settings: Settings{Release: "r"}, client: cached, direct: server, hotpaths: live.Reader{},
		events: events.NewFakeRecorder(100), now: func() time.Time { return noon.Add(time.Second) },
	}
	key := client.ObjectKeyFromObject(model)
	look := func() {
		t.Helper()
		if _, err := r.Reconcile(t.Context(), reconcile.Request{NamespacedName: key}); err != nil {
			t.Fatal(err)
		}
	}
	serves := func() string {
		t.Helper()
		found := new(appsv1.Deployment)
		if err := server.Get(t.Context(), key, found); err != nil {
			t.Fatal(err)
		}
		return found.Spec.Template.Spec.InitContainers[0].Image
	}
	look() // the trial waits for its pod, and those that serve are as they were
	if image := serves(); image != "a" {
		t.Fatalf("while the change is tried, %q is served", image)
	}
	then := new(v1alpha1.Model)
	if err := server.Get(t.Context(), key, then); err != nil {
		t.Fatal(err)
	}
	passed := then.DeepCopy()
	passed.Status.Serving, passed.Status.Revision = servingOf("b"), revisionB
	if err := server.Status().Update(t.Context(), passed); err != nil {
		t.Fatal(err)
	}
	look()
	if image := serves(); image != "b" {
		t.Fatalf("once the change has passed, %q is served", image)
	}
	cached.model = then
	look()
	if image := serves(); image != "b" {
		t.Errorf("by a Model of before, %q is served again", image)
	}
}
