package tenants

import (
	"regexp"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"triptych.dev/gateway/cmd/operator/api/v1alpha1"
)

// next is the request for a key that is to be made; nil where the one in the Secret is as it is wanted. inSecret is the id of the key
// that the Secret has; empty: none. A request that was begun is made to its end, whatever is wanted by now.
func next(want v1alpha1.TenantKey, status v1alpha1.TenantStatus, inSecret string, now time.Time) *v1alpha1.PendingKey {
	if status.Pending != nil {
		return status.Pending
	}
	request := &v1alpha1.PendingKey{Serial: 1, Scopes: want.Scopes}
	has := status.Key
	if has == nil {
		request.Replaces, request.Overlap = inSecret, want.Overlap // the status was lost, and the Secret was not
		return request
	}
	request.Serial, request.Replaces, request.Overlap = has.Serial+1, has.ID, want.Overlap
	switch {
	case has.SecretName != want.SecretName, !slices.Equal(has.Scopes, want.Scopes):
		return request
	case inSecret != has.ID: // nobody can read it again
		request.Overlap = metav1.Duration{}
		return request
	}
	if at := rotatesAt(want, has); at != nil && !now.Before(at.Time) {
		return request
	}
	return nil
}

// another is a request in the place of one that cannot be made to its end, for what is wanted now.
func another(than v1alpha1.PendingKey, want v1alpha1.TenantKey, replaces string, overlap time.Duration) *v1alpha1.PendingKey {
	return &v1alpha1.PendingKey{Serial: than.Serial + 1, Replaces: replaces, Overlap: metav1.Duration{Duration: overlap}, Scopes: want.Scopes}
}

// rotatesAt is when a key is to be replaced; nil: never.
func rotatesAt(want v1alpha1.TenantKey, key *v1alpha1.KeyStatus) *metav1.Time {
	if want.RotateEvery == nil || key == nil {
		return nil
	}
	return &metav1.Time{Time: key.CreatedAt.Add(want.RotateEvery.Duration)}
}

var keyShape = regexp.MustCompile(`^trip_([0-9a-z]{8})_[0-9A-Za-z]{43}$`)

// keyID is the part of a key that lists show; empty of what has not the shape of one.
func keyID(key string) string {
	found := keyShape.FindStringSubmatch(key)
	if found == nil {
		return ""
	}
	return found[1]
}
