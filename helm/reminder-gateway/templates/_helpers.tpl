{{- define "gateway.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* Every pod of the service, whatever its roles; not the migration's, which goes by another name. */ -}}
{{- define "gateway.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "gateway.labels" -}}
{{ include "gateway.selector" . }}
{{ include "gateway.commonLabels" . }}
{{- end -}}

{{- define "gateway.migrationLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}-migrate
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: migration
{{ include "gateway.commonLabels" . }}
{{- end -}}

{{- define "gateway.commonLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "gateway.image" -}}
{{- if .Values.image.digest -}}
{{ printf "%s@%s" .Values.image.repository .Values.image.digest | quote }}
{{- else -}}
{{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
{{- end -}}
{{- end -}}

{{- define "gateway.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "gateway.name" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- /*
The Deployments, as JSON {"all": [...]}: each with its name, component, roles, and what the values say of it (`of`).
What is true of one pod is true of all pods of its Deployment, so every object that is made for pods goes by this list.
*/ -}}
{{- define "gateway.deployments" -}}
{{- $name := include "gateway.name" . -}}
{{- $roles := list "intake" "dispatch" "callbacks" "relay" -}}
{{- $all := list -}}
{{- if .Values.scaleApart -}}
{{- range $role := $roles -}}
{{- $of := get $.Values.roles $role -}}
{{- $all = append $all (dict "name" (printf "%s-%s" $name $role) "component" $role "roles" (list $role) "of" $of "at" (printf "roles.%s" $role)) -}}
{{- end -}}
{{- else -}}
{{- $all = append $all (dict "name" $name "component" "gateway" "roles" $roles "of" .Values.together "at" "together") -}}
{{- end -}}
{{- dict "all" $all | toJson -}}
{{- end -}}

{{- /* The file itself; the Deployments and the migration Job each mount a ConfigMap with it. */ -}}
{{- define "gateway.config" -}}
gateway.yaml: |
  {{- toYaml .Values.config | nindent 2 }}
{{- end -}}

{{- define "gateway.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* What the service and the migration have in common: image, security, settings and secrets. */ -}}
{{- define "gateway.container" -}}
{{- $root := .root -}}
image: {{ include "gateway.image" $root }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
env:
  # The commands of the operator find the configuration by it, in `kubectl exec`.
  - name: REMINDER_GATEWAY_CONFIG
    value: /etc/reminder-gateway/gateway.yaml
  # The probes and Services rely on these; the kubelet comes from outside the pod.
  - name: GATEWAY__HTTP__PUBLIC_HOST
    value: "0.0.0.0"
  - name: GATEWAY__HTTP__PUBLIC_PORT
    value: "8080"
  - name: GATEWAY__HTTP__INTERNAL_HOST
    value: "0.0.0.0"
  - name: GATEWAY__HTTP__INTERNAL_PORT
    value: "8081"
  {{- with .roles }}
  - name: GATEWAY__ROLES
    value: {{ toJson . | quote }}
  {{- end }}
  {{- range $name, $value := $root.Values.env }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
{{- if $root.Values.secretAsEnv }}
envFrom:
  - secretRef:
      name: {{ $root.Values.existingSecret }}
{{- end }}
volumeMounts:
  - name: config
    mountPath: /etc/reminder-gateway
    readOnly: true
  - name: tmp
    mountPath: /tmp
{{- if $root.Values.secretAsFiles }}
  - name: secrets
    mountPath: {{ $root.Values.secretDirectory }}
    readOnly: true
{{- end }}
{{- with $root.Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "gateway.volumes" -}}
- name: config
  configMap:
    name: {{ .configMap }}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- if .root.Values.secretAsFiles }}
- name: secrets
  secret:
    secretName: {{ .root.Values.existingSecret }}
    defaultMode: 0440
{{- end }}
{{- with .root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Where pods run: what a Deployment says of it replaces what is said for all. */ -}}
{{- define "gateway.placement" -}}
{{- with .of.nodeSelector | default .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.tolerations | default .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.affinity | default .root.Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
