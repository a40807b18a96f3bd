package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Tenant is one who may use the gateways, with a key in a Secret.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name=Plan,type=string,JSONPath=.spec.plan
// +kubebuilder:printcolumn:name=Ready,type=string,JSONPath=.status.conditions[?(@.type=="Ready")].status
// +kubebuilder:printcolumn:name=Why,type=string,JSONPath=.status.conditions[?(@.type=="Ready")].reason
// +kubebuilder:printcolumn:name=Key,type=string,JSONPath=.status.key.id
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=.metadata.creationTimestamp
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 64",message="a tenant's name has 64 letters at most"
type Tenant struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   TenantSpec   `json:"spec"`
	Status TenantStatus `json:"status,omitempty"`
}

// TenantSpec is what is wanted. The tenant's name is the object's.
type TenantSpec struct {
	// The name of one of the plans in the ConfigMap that the operator's --plans names.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Plan string `json:"plan"`
	// A key that is kept in a Secret. Without it the tenant has those that people make.
	// +optional
	Key *TenantKey `json:"key,omitempty"`
}

// TenantKey is a key, and when the next one takes its place.
//
// +kubebuilder:validation:XValidation:rule="!has(self.rotateEvery) || duration(self.rotateEvery) >= duration(self.overlap)",message="overlap must not be longer than rotateEvery"
type TenantKey struct {
	// The name of the Secret, which the operator makes and owns. The key is under "key", and that before it under "previous" while it still works.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	SecretName string `json:"secretName"`
	// What it may do, as docs/limits.md has them. All, if there are none.
	// +optional
	// +kubebuilder:validation:MaxItems=32
	Scopes []string `json:"scopes,omitempty"`
	// After which time the next one is made: a minute at least. Never, if there is none.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('87600h')",message="rotateEvery is from 1m to 87600h"
	RotateEvery *metav1.Duration `json:"rotateEvery,omitempty"`
	// How long the last one still works, in whole seconds, so that whoever read the Secret has time to read it again.
	// +kubebuilder:default="24h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('87600h')",message="overlap is from 0s to 87600h"
	Overlap metav1.Duration `json:"overlap"`
}

// TenantStatus is what there is.
type TenantStatus struct {
	// The generation of spec that all else here is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// The key that is in the Secret.
	// +optional
	Key *KeyStatus `json:"key,omitempty"`
	// Those before it that still work, the latest one last.
	// +optional
	// +listType=atomic
	Previous []PreviousKey `json:"previous,omitempty"`
	// A key that was asked for, and is not in the Secret yet. It is written before the gateway is asked: an operator that starts anew repeats
	// the same request.
	// +optional
	Pending *PendingKey `json:"pending,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// KeyStatus is what may be told of a key.
type KeyStatus struct {
	// Its id: the part of the key that lists show.
	ID string `json:"id"`
	// The Secret that it is in.
	SecretName string `json:"secretName"`
	// Which request for a key of this tenant it was made by.
	Serial int64 `json:"serial"`
	// +optional
	Scopes    []string    `json:"scopes,omitempty"`
	CreatedAt metav1.Time `json:"createdAt"`
	// When the next one is made.
	// +optional
	RotatesAt *metav1.Time `json:"rotatesAt,omitempty"`
}

// PreviousKey is a key that another one took the place of.
type PreviousKey struct {
	ID     string      `json:"id"`
	EndsAt metav1.Time `json:"endsAt"`
}

// PendingKey is a request for a key. All of it stays as it is until the gateway has answered.
type PendingKey struct {
	Serial int64 `json:"serial"`
	// The id of the key whose place it takes.
	// +optional
	Replaces string `json:"replaces,omitempty"`
	// How long that one still works.
	// +optional
	Overlap metav1.Duration `json:"overlap,omitempty"`
	// +optional
	Scopes []string `json:"scopes,omitempty"`
}

// TenantList is what lists answer.
//
// +kubebuilder:object:root=true
type TenantList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Tenant `json:"items"`
}
