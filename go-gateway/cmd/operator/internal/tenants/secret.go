package tenants

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"triptych.dev/gateway/cmd/operator/api/v1alpha1"
)

const (
	// fieldOwner is the owner of what is written here.
	fieldOwner = "triptych-operator"
	// tenantLabel is on Secrets that are made here, with the tenant's name: which Secrets are watched.
	tenantLabel    = "triptych.dev/tenant"
	managedByLabel = "app.kubernetes.io/managed-by"

	keyField, previousField = "key", "previous"
)

// secret is a Secret as it is. It is never printed.
type secret struct {
	name             string
	object           *corev1.Secret // nil: it is not there
	taken            bool           // it is there, and is not ours
	key, previous    string
	keyID, beforeKey string // their ids
}

func (s secret) isThere() bool { return s.object != nil && !s.taken }

// String keeps keys out of logs.
func (s secret) String() string { return fmt.Sprintf("secret %s with the key %s", s.name, s.keyID) }

// secrets reads and writes the Secrets of Tenants. It reads them from the API server itself: they are not kept in memory.
type secrets struct {
	client client.Client
	live   client.Reader
}

// find returns the Secret of a name.
func (s *secrets) find(ctx context.Context, owner *v1alpha1.Tenant, name string) (secret, error) {
	var found corev1.Secret
	err := s.live.Get(ctx, client.ObjectKey{Namespace: owner.Namespace, Name: name}, &found)
	if apierrors.IsNotFound(err) {
		return secret{name: name}, nil
	}
	if err != nil {
		return secret{}, fmt.Errorf("reading the Secret %s: %w", name, err)
	}
	read := secret{name: name, object: &found, taken: !metav1.IsControlledBy(&found, owner)}
	if !read.taken {
		read.key, read.previous = string(found.Data[keyField]), string(found.Data[previousField])
		read.keyID, read.beforeKey = keyID(read.key), keyID(read.previous)
	}
	return read, nil
}

// write puts keys into a Secret as it was read, or makes it. It fails where somebody else was quicker, so no other Secret is overwritten.
// previous may be empty. (Server-side apply cannot ask that there be none yet.)
func (s *secrets) write(ctx context.Context, owner *v1alpha1.Tenant, as secret, key, previous string) error {
	store := func(object *corev1.Secret) error { return s.client.Update(ctx, object, client.FieldOwner(fieldOwner)) }
	object := as.object
	if object == nil {
		store = func(object *corev1.Secret) error { return s.client.Create(ctx, object, client.FieldOwner(fieldOwner)) }
		object = &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: as.name, Namespace: owner.Namespace, OwnerReferences: []metav1.OwnerReference{{
				APIVersion: v1alpha1.GroupVersion.String(), Kind: "Tenant", Name: owner.Name, UID: owner.UID, Controller: new(true),
			}}},
			Type: corev1.SecretTypeOpaque,
		}
	}
	metav1.SetMetaDataLabel(&object.ObjectMeta, tenantLabel, owner.Name)
	metav1.SetMetaDataLabel(&object.ObjectMeta, managedByLabel, fieldOwner)
	if object.Data == nil {
		object.Data = map[string][]byte{}
	}
	object.Data[keyField] = []byte(key)
	delete(object.Data, previousField)
	if previous != "" {
		object.Data[previousField] = []byte(previous)
	}
	if err := store(object); err != nil {
		return fmt.Errorf("writing the Secret %s: %w", as.name, err)
	}
	return nil
}

// remove deletes a Secret of ours.
func (s *secrets) remove(ctx context.Context, owner *v1alpha1.Tenant, name string) error {
	found, err := s.find(ctx, owner, name)
	if err != nil || !found.isThere() {
		return err
	}
	err = s.client.Delete(ctx, found.object, client.Preconditions{UID: &found.object.UID})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting the Secret %s: %w", name, err)
	}
	return nil
}
