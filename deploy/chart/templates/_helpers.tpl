{{- /* What templates share. Where a component is meant, the argument is a list: the root and the component's name. */ -}}

{{- define "triptych.name" -}}
{{ (index . 0).Release.Name }}-{{ index . 1 }}
{{- end }}

{{- define "triptych.selector" -}}
{app.kubernetes.io/name: triptych, app.kubernetes.io/instance: {{ (index . 0).Release.Name | quote }}, app.kubernetes.io/component: {{ index . 1 }}}
{{- end }}

{{- define "triptych.labels" -}}
{{ include "triptych.selector" . | trimSuffix "}" }}, app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}}
{{- end }}

{{- define "triptych.metadata" -}}
name: {{ include "triptych.name" . }}
namespace: {{ (index . 0).Release.Namespace }}
labels: {{ include "triptych.labels" . }}
{{- end }}

{{- define "triptych.image" -}}
{{- with (index . 0).Values.images }}
image: {{ with .registry }}{{ . }}/{{ end }}triptych-{{ index $ 1 }}:{{ .tag }}
imagePullPolicy: {{ .pullPolicy }}
{{- end }}
{{- end }}

{{- /* Of every pod: the user of our images, the restricted Pod Security Standard, and no credential of the cluster, which the operator alone uses. Volumes become
writable by the group; what is in them keeps its modes, which the gateway looks at. */ -}}
{{- define "triptych.pod" -}}
automountServiceAccountToken: {{ eq (index . 1) "operator" }}
enableServiceLinks: false
{{- with (index . 0).Values.images.pullSecrets }}
imagePullSecrets: {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "triptych.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* Replicas on nodes of their own, in zones of their own, as far as there are any: one that cannot be placed so is placed all the same. */ -}}
{{- define "triptych.spread" -}}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector: {matchLabels: {{ include "triptych.selector" $ }}}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}

{{- define "triptych.settings" -}}
{{- range $name, $value := . }}
- {name: {{ $name }}, value: {{ quote $value }}}
{{- end }}
{{- end }}

{{- /* One at a time, when nodes are drained. Of a single one as well: a budget that allows none would keep its node from ever being drained. */ -}}
{{- define "triptych.budget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{- include "triptych.metadata" . | nindent 2 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector: {matchLabels: {{ include "triptych.selector" . }}}
{{- end }}

{{- /* The argument is a value with size and so on. */ -}}
{{- define "triptych.claim" -}}
accessModes: [{{ .accessMode | default "ReadWriteOnce" }}]
{{- with .storageClass }}
storageClassName: {{ . }}
{{- end }}
resources: {requests: {storage: {{ .size }}}}
{{- end }}

{{- /* How many gateways there may be. */ -}}
{{- define "triptych.gateways" -}}
{{- with .Values.gateway }}{{ if .autoscaling.enabled }}{{ int .autoscaling.max }}{{ else }}{{ int .replicas }}{{ end }}{{ end }}
{{- end }}

{{- define "triptych.hotpaths" -}}
{{- with .Values.hotpath }}{{ if .autoscaling.enabled }}{{ int .autoscaling.max }}{{ else }}{{ int .replicas }}{{ end }}{{ end }}
{{- end }}

{{- /* The ConfigMaps of the operator: the plans that it reads, and the file of tenants that it makes and gateways have mounted. */ -}}
{{- define "triptych.plans" -}}
{{ .Values.operator.plans | default (include "triptych.name" (list . "plans")) }}
{{- end }}

{{- define "triptych.tenants" -}}
{{ if .Values.operator.tenants }}{{ include "triptych.name" (list . "tenants-file") }}{{ else }}{{ .Values.gateway.tenants | default (include "triptych.name" (list . "tenants")) }}{{ end }}
{{- end }}
