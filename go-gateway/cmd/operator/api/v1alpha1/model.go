package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Model is served by hot paths of its own.
//
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 52 && !self.metadata.name.contains('.')",message="metadata.name must have 52 characters at most and no dot: hot paths are named and labelled by it"
// +kubebuilder:validation:XValidation:rule="!self.metadata.name.endsWith('-trial')",message="metadata.name must not end in -trial: so is named what tries a change of another model"
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:printcolumn:name=Revision,type=string,JSONPath=.status.revision
// +kubebuilder:printcolumn:name=Ready,type=integer,JSONPath=.status.readyReplicas
// +kubebuilder:printcolumn:name=Wanted,type=integer,JSONPath=.spec.replicas
// +kubebuilder:printcolumn:name=Waiting for,type=string,JSONPath=.status.conditions[?(@.type=="Progressing")].message
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=.metadata.creationTimestamp
type Model struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ModelSpec   `json:"spec"`
	Status ModelStatus `json:"status,omitempty"`
}

// ModelSpec is what is wanted.
type ModelSpec struct {
	// The model's bundle. A change is tried by one replica beside the others before they follow.
	Bundle Bundle `json:"bundle"`
	// How many hot paths serve it.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	Replicas int32 `json:"replicas"`
	// The hot paths themselves. A change is tried likewise.
	HotPath HotPath `json:"hotPath"`
	// What a change has to show before all replicas follow.
	// +kubebuilder:default={}
	Rollout Rollout `json:"rollout"`
}

// Bundle says which one, and where it is from.
type Bundle struct {
	// The name of the model's folder in the image, which is also what requests call it. The object's own name if there is none.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9][A-Za-z0-9._-]*$`
	Name string `json:"name,omitempty"`
	// An image with bundles in /bundles, as deploy/models.Dockerfile makes them.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image"`
	// The revision that has to be in it, as the exporter prints it. What turns out to be another one is not rolled out. Any, if there is none.
	// +optional
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{16}$`
	Revision string `json:"revision,omitempty"`
}

// ProcessorClass is what hot paths are to find on their node.
//
// +kubebuilder:validation:Enum=any;avx2;avx512;avx512_vnni;amx
type ProcessorClass string

// HotPath is how each of them runs.
type HotPath struct {
	// Its image, as deploy/hotpath.Dockerfile makes it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image"`
	// The class of processor, by the labels of Node Feature Discovery. Each class has what those before it have.
	// +kubebuilder:default=any
	Processor ProcessorClass `json:"processor"`
	// Labels that a node must have besides.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	// As many threads run models as there are processors in the request.
	// +optional
	Resources corev1.ResourceRequirements `json:"resources,omitempty"`
	// Variables of docs/config.md that the operator does not set itself, as HOTPATH_CACHE_BYTES.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(name, name.matches('^HOTPATH_[A-Z0-9_]{1,64}$'))",message="only variables of hot paths can be set, which begin with HOTPATH_"
	// +kubebuilder:validation:XValidation:rule="self.all(name, !(name in ['HOTPATH_GRPC_ADDRESS', 'HOTPATH_METRICS_ADDRESS', 'HOTPATH_MODELS', 'HOTPATH_MODEL_NAMES', 'HOTPATH_DRAIN_MS', 'HOTPATH_COMPUTE_THREADS', 'HOTPATH_WORKERS', 'HOTPATH_GENERATION_THREADS', 'HOTPATH_OTLP_ENDPOINT']))",message="addresses, models, threads, the time to drain and where traces go are set by the operator itself: leave them out"
	Settings map[string]string `json:"settings,omitempty"`
}

// Rollout is what a change has to show.
type Rollout struct {
	// How long the replica with the change is watched beside the others, after its golden cases.
	// +optional
	// +kubebuilder:default=300
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	ObserveSeconds int32 `json:"observeSeconds"`
	// How many requests it has to have answered by then. With fewer it is watched on, until the deadline.
	// +optional
	// +kubebuilder:default=50
	// +kubebuilder:validation:Minimum=0
	MinRequests int64 `json:"minRequests"`
	// How many requests in a thousand may fail beyond the share that fails beside it.
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	MaxMoreErrorsPerThousand int32 `json:"maxMoreErrorsPerThousand"`
	// How long requests may take, in percent of what they take beside it: the mean of the same time.
	// +optional
	// +kubebuilder:default=150
	// +kubebuilder:validation:Minimum=100
	// +kubebuilder:validation:Maximum=10000
	MaxLatencyPercent int32 `json:"maxLatencyPercent"`
	// How long a change may take to be ready and, beyond the time of watching, to have its requests. Then it is taken back.
	// +optional
	// +kubebuilder:default=900
	// +kubebuilder:validation:Minimum=30
	// +kubebuilder:validation:Maximum=86400
	DeadlineSeconds int32 `json:"deadlineSeconds"`
}

// Conditions of a Model.
const (
	// ConditionReady is true while as many replicas as are wanted serve the revision of status.
	ConditionReady = "Ready"
	// ConditionProgressing is true while something is waited for; its message says what.
	ConditionProgressing = "Progressing"
	// ConditionRolledBack is true while what is wanted was tried and taken back; its message says why. It is until spec changes.
	ConditionRolledBack = "RolledBack"
)

// ModelStatus is what there is.
type ModelStatus struct {
	// The generation of spec that all else here is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// The revision that is served by all replicas but one that tries another.
	// +optional
	Revision string `json:"revision,omitempty"`
	// Hot paths that there are, with one that tries a change.
	// +optional
	Replicas int32 `json:"replicas"`
	// Those that serve.
	// +optional
	ReadyReplicas int32 `json:"readyReplicas"`
	// Pods of this model, for autoscalers.
	// +optional
	Selector string `json:"selector,omitempty"`
	// What the replicas serve, or are on their way to: it was tried, or was there first.
	// +optional
	Serving *Serving `json:"serving,omitempty"`
	// The change that is being tried.
	// +optional
	Trial *Trial `json:"trial,omitempty"`
	// What was tried last and taken back: it is not tried again.
	// +optional
	Refused *Refused `json:"refused,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Serving is the part of a spec that replicas serve, so that they go on with it while another one is tried.
type Serving struct {
	Hash    string  `json:"hash"`
	Bundle  Bundle  `json:"bundle"`
	HotPath HotPath `json:"hotPath"`
}

// Trial is one replica with a change, beside the others.
type Trial struct {
	// Of all in spec that is tried.
	Hash string `json:"hash"`
	// Since when there is one.
	StartedAt metav1.Time `json:"startedAt"`
	// The revision that it serves, once it does.
	// +optional
	Revision string `json:"revision,omitempty"`
	// Since when it is ready and watched. Another operator, or another pod, begins again.
	// +optional
	ReadyAt *metav1.Time `json:"readyAt,omitempty"`
}

// Refused is a change that was taken back.
type Refused struct {
	Hash string `json:"hash"`
	// +optional
	Revision string      `json:"revision,omitempty"`
	At       metav1.Time `json:"at"`
	// In a word, as the condition's reason has it.
	Reason string `json:"reason"`
	// Why, for people.
	Why string `json:"why"`
}

// ModelList is what lists answer.
//
// +kubebuilder:object:root=true
type ModelList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Model `json:"items"`
}
