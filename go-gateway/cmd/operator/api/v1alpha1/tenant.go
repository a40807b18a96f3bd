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
type TenantKey struct {
	// The name of the Secret, which the operator makes and owns. The key is under "key", and that before it under "previous" while it still works.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	SecretName string `json:"secretName"`
	// What it may do, as docs/limits.md has them. All, if there are none.
	// +optional
	// +kubebuilder:validation:MaxItems=32
	Scopes []string `json:"scopes,omitempty"`
	// After which time the next one is made. Never, if there is none.
	// +optional
	RotateEvery *metav1.Duration `json:"rotateEvery,omitempty"`
	// How long the last one still works, so that whoever read the Secret has time to read it again.
	// +kubebuilder:default="24h"
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
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// KeyStatus is what may be told of a key.
type KeyStatus struct {
	// Its id: the part of the key that lists show.
	ID string `json:"id"`
	// How many there have been before it.
	Serial    int64       `json:"serial"`
	CreatedAt metav1.Time `json:"createdAt"`
	// When the next one is made.
	// +optional
	RotatesAt *metav1.Time `json:"rotatesAt,omitempty"`
}

// TenantList is what lists answer.
//
// +kubebuilder:object:root=true
type TenantList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Tenant `json:"items"`
}
