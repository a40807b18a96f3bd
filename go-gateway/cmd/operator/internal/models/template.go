package models

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"triptych.dev/gateway/cmd/operator/api/v1alpha1"
)

// Labels and annotations of ours, beside those that the chart's services and policies select by.
const (
	labelModel = "triptych.dev/model"
	labelPart  = "triptych.dev/part"
	labelHash  = "triptych.dev/hash"

	partServing, partTrial = "serving", "trial"
)

// The container whose pods these are.
const hotpath = "hotpath"

// Labels of Node Feature Discovery. Of AVX-512, hot paths use no less than F, BW and VL, which come together.
var processors = map[v1alpha1.ProcessorClass]string{
	"avx2": "AVX2", "avx512": "AVX512BW", "avx512_vnni": "AVX512VNNI", "amx": "AMXINT8",
}

// hashOf is of all that a change is made of: 16 hexadecimal digits.
func hashOf(bundle v1alpha1.Bundle, hotPath v1alpha1.HotPath) string {
	text, err := json.Marshal(struct {
		Bundle  v1alpha1.Bundle
		HotPath v1alpha1.HotPath
	}{bundle, hotPath})
	if err != nil {
		panic(fmt.Sprintf("what came as JSON cannot be written as JSON: %v", err))
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// bundleName is what requests call the model.
func bundleName(model string, bundle v1alpha1.Bundle) string {
	if bundle.Name != "" {
		return bundle.Name
	}
	return model
}

// labels are those of all hot paths of a model.
func (s Settings) labels(model string) map[string]string {
	return map[string]string{
		"app.kubernetes.io/name": "triptych", "app.kubernetes.io/instance": s.Release, "app.kubernetes.io/component": "hotpath",
		labelModel: model,
	}
}

func with(labels map[string]string, more ...string) map[string]string {
	all := maps.Clone(labels)
	for i := 0; i < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	return all
}

func (s Settings) metadata(model *v1alpha1.Model, name string) metav1.ObjectMeta {
	yes := true
	return metav1.ObjectMeta{
		Name: name, Namespace: model.Namespace,
		Labels: with(s.labels(model.Name), "app.kubernetes.io/managed-by", "triptych-operator"),
		// Nobody who deletes the Model waits for them, so BlockOwnerDeletion, for which another right is wanted, is not set.
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: v1alpha1.GroupVersion.String(), Kind: "Model", Name: model.Name, UID: model.UID, Controller: &yes,
		}},
	}
}

// trialName is that of the Deployment that tries a change.
func trialName(model string) string { return model + "-trial" }

// deployment is what serves, or what tries a change.
func (s Settings) deployment(model *v1alpha1.Model, part string, wanted Wanted) *appsv1.Deployment {
	selector := with(s.labels(model.Name), labelPart, part)
	name, strategy := model.Name, appsv1.DeploymentStrategy{
		Type: appsv1.RollingUpdateDeploymentStrategyType,
		RollingUpdate: &appsv1.RollingUpdateDeployment{
			MaxUnavailable: new(intstr.FromInt32(0)), MaxSurge: new(intstr.FromInt32(1)),
		},
	}
	minReady := seconds(s.Pods.MinReady)
	if part == partTrial {
		// Another change takes the place of the one before it: two at a time would be twice the risk.
		name, strategy, minReady = trialName(model.Name), appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}, 0
	}
	made := &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: s.metadata(model, name),
		Spec: appsv1.DeploymentSpec{
			Replicas: &wanted.Replicas, Strategy: strategy, MinReadySeconds: int32(minReady),
			Selector: &metav1.LabelSelector{MatchLabels: selector},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: with(selector, labelHash, wanted.Hash, "app.kubernetes.io/managed-by", "triptych-operator")},
				Spec:       s.pod(model.Name, wanted.Bundle, wanted.HotPath),
			},
		},
	}
	made.Annotations = map[string]string{labelHash: wanted.Hash}
	return made
}

// budget lets one hot path of a model go at a time when nodes are drained, the one that tries a change among them. (One that allowed
// none would keep the node of a single hot path from ever being drained.)
func (s Settings) budget(model *v1alpha1.Model) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		TypeMeta:   metav1.TypeMeta{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"},
		ObjectMeta: s.metadata(model, model.Name),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable:             new(intstr.FromInt32(1)),
			UnhealthyPodEvictionPolicy: new(policyv1.AlwaysAllow),
			Selector:                   &metav1.LabelSelector{MatchLabels: s.labels(model.Name)},
		},
	}
}

// pod is as the chart's hot paths are.
func (s Settings) pod(model string, bundle v1alpha1.Bundle, of v1alpha1.HotPath) corev1.PodSpec {
	const user = 65532 // of our images
	selector := maps.Clone(of.NodeSelector)
	if feature, ok := processors[of.Processor]; ok {
		if selector == nil {
			selector = map[string]string{}
		}
		selector["feature.node.kubernetes.io/cpu-cpuid."+feature] = "true"
	}
	var secrets []corev1.LocalObjectReference
	for _, name := range s.Pods.PullSecrets {
		secrets = append(secrets, corev1.LocalObjectReference{Name: name})
	}
	var spread []corev1.TopologySpreadConstraint
	for _, key := range []string{"topology.kubernetes.io/zone", "kubernetes.io/hostname"} {
		spread = append(spread, corev1.TopologySpreadConstraint{
			MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector:  &metav1.LabelSelector{MatchLabels: s.labels(model)},
			MatchLabelKeys: []string{"pod-template-hash"},
		})
	}
	return corev1.PodSpec{
		AutomountServiceAccountToken: new(false),
		EnableServiceLinks:           new(false),
		ImagePullSecrets:             secrets,
		NodeSelector:                 selector,
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: new(true), RunAsUser: new(int64(user)), RunAsGroup: new(int64(user)), FSGroup: new(int64(user)),
			FSGroupChangePolicy: new(corev1.FSGroupChangeOnRootMismatch),
			SeccompProfile:      &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		TopologySpreadConstraints:     spread,
		TerminationGracePeriodSeconds: new(seconds(s.Pods.PreStop) + seconds(s.Pods.Drain) + 15),
		InitContainers:                []corev1.Container{s.importer(bundle)},
		Containers:                    []corev1.Container{s.serving(model, bundle, of)},
		Volumes:                       []corev1.Volume{folder("models", s.Pods.ModelsSize), folder("tmp", resource.MustParse("64Mi"))},
	}
}

// importer copies the bundles of its image to where the hot path reads them.
func (s Settings) importer(bundle v1alpha1.Bundle) corev1.Container {
	return corev1.Container{
		Name: "models", Image: bundle.Image, ImagePullPolicy: corev1.PullPolicy(s.Pods.PullPolicy), SecurityContext: confined(),
		Args: []string{"import", "/bundles"},
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("512Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")},
		},
		VolumeMounts: []corev1.VolumeMount{{Name: "models", MountPath: "/models"}, {Name: "tmp", MountPath: "/tmp"}},
	}
}

func (s Settings) serving(model string, bundle v1alpha1.Bundle, of v1alpha1.HotPath) corev1.Container {
	probe := func(path string, period, timeout, failures int32) *corev1.Probe {
		return &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("metrics")}},
			PeriodSeconds: period, TimeoutSeconds: timeout, FailureThreshold: failures,
		}
	}
	made := corev1.Container{
		Name: hotpath, Image: of.Image, ImagePullPolicy: corev1.PullPolicy(s.Pods.PullPolicy), SecurityContext: confined(),
		Args: []string{"serve"},
		Ports: []corev1.ContainerPort{
			{Name: "grpc", ContainerPort: 50051, Protocol: corev1.ProtocolTCP}, {Name: "metrics", ContainerPort: 9465, Protocol: corev1.ProtocolTCP},
		},
		Env:          s.environment(model, bundle, of),
		StartupProbe: probe("/livez", 1, 1, 60),
		// The process answers, and no more: a model that dies is loaded again without a restart.
		LivenessProbe: probe("/livez", 10, 5, 6),
		// The model gave its golden results and works, and the process does not drain.
		ReadinessProbe: probe("/readyz", 2, 2, 3),
		Resources:      of.Resources,
		VolumeMounts:   []corev1.VolumeMount{{Name: "models", MountPath: "/models", ReadOnly: true}},
	}
	if s.Pods.PreStop > 0 {
		made.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: seconds(s.Pods.PreStop)}}}
	}
	return made
}

func (s Settings) environment(model string, bundle v1alpha1.Bundle, of v1alpha1.HotPath) []corev1.EnvVar {
	env := []corev1.EnvVar{
		{Name: "HOTPATH_GRPC_ADDRESS", Value: "0.0.0.0:50051"},
		{Name: "HOTPATH_METRICS_ADDRESS", Value: "0.0.0.0:9465"},
		{Name: "HOTPATH_MODELS", Value: "/models"},
		{Name: "HOTPATH_MODEL_NAMES", Value: bundleName(model, bundle)},
		{Name: "HOTPATH_DRAIN_MS", Value: strconv.FormatInt(s.Pods.Drain.Milliseconds(), 10)},
	}
	if !of.Resources.Requests.Cpu().IsZero() {
		for _, name := range []string{"COMPUTE_THREADS", "WORKERS", "GENERATION_THREADS"} {
			env = append(env, corev1.EnvVar{Name: "HOTPATH_" + name, ValueFrom: &corev1.EnvVarSource{
				ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: hotpath, Resource: "requests.cpu", Divisor: resource.MustParse("1")},
			}})
		}
	}
	if s.Pods.OTLPEndpoint != "" {
		env = append(env, corev1.EnvVar{Name: "HOTPATH_OTLP_ENDPOINT", Value: s.Pods.OTLPEndpoint})
	}
	for _, name := range slices.Sorted(maps.Keys(of.Settings)) {
		env = append(env, corev1.EnvVar{Name: name, Value: of.Settings[name]})
	}
	return env
}

func confined() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
}

func folder(name string, size resource.Quantity) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &size}}}
}
