// Package v1alpha1 has what the operator makes of a cluster's wishes: which models are served by how many hot paths, and which
// tenants there are. Fields are documented where kubectl explain shows them.
//
// +kubebuilder:object:generate=true
// +groupName=triptych.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is that of all kinds here.
var GroupVersion = schema.GroupVersion{Group: "triptych.dev", Version: "v1alpha1"}

// AddToScheme tells a scheme of the kinds here.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &Model{}, &ModelList{}, &Tenant{}, &TenantList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
