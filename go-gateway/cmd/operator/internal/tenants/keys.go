package tenants

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"triptych.dev/gateway/cmd/operator/api/v1alpha1"
	"triptych.dev/gateway/internal/adminapi"
)

const (
	// mostSteps are more than there are between a Tenant that is new, or whose last request was lost, and its key.
	mostSteps = 6
	// mostPrevious keys work beside the one in the Secret: of more, the oldest one is revoked.
	mostPrevious = 8
)

// keepKey makes requests for a key until the one in the Secret is as it is wanted.
func (k *keeper) keepKey(ctx context.Context, tenant *subject) (verdict, error) {
	for range mostSteps {
		has, err := k.secrets.find(ctx, tenant.Tenant, tenant.Spec.Key.SecretName)
		if err != nil {
			return verdict{}, err
		}
		if has.taken {
			return verdict{reasonSecretTaken, fmt.Sprintf("There is a Secret %s already, which is not this tenant's: delete it, or name another one in spec.key.secretName.", has.name)}, nil
		}
		inSecret := has.keyID
		if tenant.Status.Key == nil && inSecret != "" {
			owns, err := k.owns(ctx, tenant, inSecret)
			if err != nil {
				return trouble(err), nil
			}
			if !owns {
				inSecret = ""
			}
		}
		request := next(*tenant.Spec.Key, tenant.Status, inSecret, k.now())
		if request == nil {
			request = k.instead(ctx, tenant)
		}
		if request == nil {
			return k.tidy(ctx, tenant, has)
		}
		if is, err := k.fulfil(ctx, tenant, has, *request); is != (verdict{}) || err != nil {
			return is, err
		}
	}
	return verdict{}, errors.New("a tenant's key changed at each step: somebody else changes it too")
}

// instead is the request for a key in the place of one that works no more, or will not for long, since somebody else had it so; nil where
// it works, or no gateway says.
func (k *keeper) instead(ctx context.Context, tenant *subject) *v1alpha1.PendingKey {
	has := tenant.Status.Key
	found, err := k.gateway.FindKey(ctx, has.ID)
	switch {
	case isAbout(err, "id"):
	case err != nil:
		return nil
	case !ended(found, k.now()) && found.ReplacedBy == "":
		return nil
	case !ended(found, k.now()) && found.Expires != nil: // it is ours to revoke until then
		tenant.Status.Previous = append(tenant.Status.Previous, v1alpha1.PreviousKey{ID: has.ID, EndsAt: metav1.Unix(*found.Expires, 0)})
	}
	return &v1alpha1.PendingKey{Serial: has.Serial + 1, Scopes: tenant.Spec.Key.Scopes}
}

// fulfil writes a request down, makes it, and puts the key into the Secret. A gateway shows a key once: where its answer never came here,
// the request is replaced by one for another key in the place of that one, which ends at once.
func (k *keeper) fulfil(ctx context.Context, tenant *subject, has secret, request v1alpha1.PendingKey) (verdict, error) {
	if is, err := k.prepare(ctx, tenant, has, request); is != (verdict{}) || err != nil {
		return is, err
	}
	made, err := k.ask(ctx, tenant.Tenant, request)
	want := *tenant.Spec.Key
	switch {
	case err == nil && made.Key == "" && made.ID != has.keyID:
		retire(&tenant.Status, request, made)
		return verdict{}, k.rather(ctx, tenant, another(request, want, made.ID, 0))
	case err == nil:
		return verdict{}, k.deliver(ctx, tenant, has, request, made)
	case request.Replaces != "" && isAbout(err, "id"): // it has ended, or somebody had it replaced
		return verdict{}, k.rather(ctx, tenant, another(request, want, "", 0))
	case isReused(err), trouble(err).reason == reasonGatewayRefuses && !slices.Equal(request.Scopes, want.Scopes):
		return verdict{}, k.rather(ctx, tenant, another(request, want, request.Replaces, request.Overlap.Duration))
	}
	return trouble(err), nil
}

// prepare writes a request down before it is made. What was in a Secret that is gone is to work no more.
func (k *keeper) prepare(ctx context.Context, tenant *subject, has secret, request v1alpha1.PendingKey) (verdict, error) {
	status := &tenant.Status
	if lost := status.Key != nil && status.Key.SecretName == tenant.Spec.Key.SecretName && !has.isThere(); lost {
		for len(status.Previous) > 0 {
			if err := k.revoke(ctx, tenant, status.Previous[0].ID); err != nil {
				return trouble(err), nil
			}
			status.Previous = status.Previous[1:]
		}
	}
	return verdict{}, k.rather(ctx, tenant, &request)
}

// rather writes down which request is to be made.
func (k *keeper) rather(ctx context.Context, tenant *subject, request *v1alpha1.PendingKey) error {
	tenant.Status.Pending = request
	return k.save(ctx, tenant)
}

// ask makes a request. Made again it makes no second key.
func (k *keeper) ask(ctx context.Context, tenant *v1alpha1.Tenant, request v1alpha1.PendingKey) (adminapi.Key, error) {
	once := fmt.Sprintf("triptych-operator/%s/%d", tenant.UID, request.Serial)
	if request.Replaces == "" {
		return k.gateway.CreateKey(ctx, once, tenant.Name, request.Scopes)
	}
	return k.gateway.RotateKey(ctx, once, request.Replaces, request.Overlap.Duration, request.Scopes)
}

// deliver puts a key into the Secret, with the one before it while that works, and then into the status.
func (k *keeper) deliver(ctx context.Context, tenant *subject, has secret, request v1alpha1.PendingKey, made adminapi.Key) error {
	before, old := has, tenant.Status.Key
	if old != nil && old.SecretName != has.name {
		var err error
		if before, err = k.secrets.find(ctx, tenant.Tenant, old.SecretName); err != nil {
			return err
		}
	}
	retire(&tenant.Status, request, made)
	if made.Key != "" { // otherwise it is there, and the status is not
		previous := ""
		if stillWorks(tenant.Status, before.keyID) {
			previous = before.key
		}
		if err := k.secrets.write(ctx, tenant.Tenant, has, made.Key, previous); err != nil {
			return err
		}
	}
	if before.name != has.name {
		if err := k.secrets.remove(ctx, tenant.Tenant, before.name); err != nil {
			return err
		}
	}
	tenant.Status.Pending = nil
	tenant.Status.Key = &v1alpha1.KeyStatus{
		ID: made.ID, SecretName: has.name, Serial: request.Serial, Scopes: request.Scopes, CreatedAt: metav1.Unix(made.Created, 0),
	}
	if err := k.save(ctx, tenant); err != nil {
		return err
	}
	k.events.Eventf(tenant.Tenant, nil, corev1.EventTypeNormal, "KeyMade", "Reconcile", "The key %s is in the Secret %s.", made.ID, has.name)
	logf.FromContext(ctx).Info("a key was made", "key", made.ID, "secret", has.name, "replaces", request.Replaces)
	return nil
}

// retire writes down that a key works beside the one that was made in its place.
func retire(status *v1alpha1.TenantStatus, request v1alpha1.PendingKey, made adminapi.Key) {
	if request.Replaces != "" && request.Overlap.Duration > 0 && !stillWorks(*status, request.Replaces) {
		ends := time.Unix(made.Created, 0).Add(request.Overlap.Duration)
		status.Previous = append(status.Previous, v1alpha1.PreviousKey{ID: request.Replaces, EndsAt: metav1.NewTime(ends)})
	}
}

// stillWorks reports whether a key is one of those before that work.
func stillWorks(status v1alpha1.TenantStatus, id string) bool {
	return slices.ContainsFunc(status.Previous, func(one v1alpha1.PreviousKey) bool { return one.ID == id })
}

// tidy forgets keys that have ended, and takes the one before out of the Secret once it has.
func (k *keeper) tidy(ctx context.Context, tenant *subject, has secret) (verdict, error) {
	status := &tenant.Status
	status.Previous = slices.DeleteFunc(status.Previous, func(one v1alpha1.PreviousKey) bool { return !k.now().Before(one.EndsAt.Time) })
	for len(status.Previous) > mostPrevious {
		if err := k.revoke(ctx, tenant, status.Previous[0].ID); err != nil {
			return trouble(err), nil
		}
		status.Previous = status.Previous[1:]
	}
	if has.previous != "" && !stillWorks(*status, has.beforeKey) {
		return verdict{}, k.secrets.write(ctx, tenant.Tenant, has, has.key, "")
	}
	return verdict{}, nil
}

// owns reports whether a key is the tenant's. What is in a Secret may be written by others, who could name anybody's key there.
func (k *keeper) owns(ctx context.Context, tenant *subject, id string) (bool, error) {
	found, err := k.gateway.FindKey(ctx, id)
	if isAbout(err, "id") {
		return false, nil
	}
	return err == nil && found.Tenant == tenant.Name, err
}

// revoke ends a key. One that gateways do not know has ended.
func (k *keeper) revoke(ctx context.Context, tenant *subject, id string) error {
	_, err := k.gateway.RevokeKey(ctx, id)
	if err != nil && !isAbout(err, "id") {
		return err
	}
	k.events.Eventf(tenant.Tenant, nil, corev1.EventTypeNormal, "KeyRevoked", "Reconcile", "The key %s is revoked.", id)
	logf.FromContext(ctx).Info("a key was revoked", "key", id)
	return nil
}

// release revokes all keys that were made for a Tenant, deletes their Secret, and lets the Tenant go.
func (k *keeper) release(ctx context.Context, tenant *subject) (verdict, error) {
	if !controllerutil.ContainsFinalizer(tenant.Tenant, finalizer) {
		return verdict{}, nil
	}
	ids, names, err := k.made(ctx, tenant)
	if err != nil {
		return verdict{}, err
	}
	if pending := tenant.Status.Pending; pending != nil { // its key may be there, and nobody knows which it is
		key, err := k.ask(ctx, tenant.Tenant, *pending)
		switch said, _ := refusal(err); {
		case err == nil:
			ids = append(ids, key.ID)
		case said.Status != http.StatusBadRequest && !isReused(err): // those make no key
			return trouble(err), nil
		}
	}
	for _, id := range ids {
		owns, err := k.owns(ctx, tenant, id)
		if err == nil && owns {
			err = k.revoke(ctx, tenant, id)
		}
		if err != nil {
			return trouble(err), nil
		}
	}
	for _, name := range names {
		if err := k.secrets.remove(ctx, tenant.Tenant, name); err != nil {
			return verdict{}, err
		}
	}
	tenant.Status.Key, tenant.Status.Previous, tenant.Status.Pending = nil, nil, nil
	if err := k.save(ctx, tenant); err != nil {
		return verdict{}, err
	}
	return verdict{}, k.changeFinalizer(ctx, tenant, controllerutil.RemoveFinalizer)
}

// made returns the ids of the keys that were made for a Tenant, as far as they are known, and the names of the Secrets that they may be in.
func (k *keeper) made(ctx context.Context, tenant *subject) (ids, names []string, err error) {
	if key := tenant.Status.Key; key != nil {
		ids, names = append(ids, key.ID), append(names, key.SecretName)
	}
	if key := tenant.Spec.Key; key != nil {
		names = append(names, key.SecretName)
	}
	for _, one := range tenant.Status.Previous {
		ids = append(ids, one.ID)
	}
	for _, name := range names {
		has, err := k.secrets.find(ctx, tenant.Tenant, name)
		if err != nil {
			return nil, nil, err
		}
		ids = append(ids, has.keyID, has.beforeKey)
	}
	slices.Sort(ids)
	ids = slices.DeleteFunc(slices.Compact(ids), func(id string) bool { return id == "" })
	slices.Sort(names)
	return ids, slices.Compact(names), nil
}
