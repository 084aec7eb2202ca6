{{- define "gateway.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "gateway.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "gateway.labels" -}}
{{ include "gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "gateway.image" -}}
{{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
{{- end -}}

{{- define "gateway.noMode" -}}
config.mode is needed, say whom this gateway may reach: `simulate` (nobody, every provider is on loopback), `allowlist` (only the addresses whose indexes config.allowlist lists) or `live` (every borrower a request names)
{{- end -}}

{{- /* The file itself; the Deployment and the migration Job each mount a ConfigMap with it. */ -}}
{{- define "gateway.config" -}}
{{- $_ := required (include "gateway.noMode" .) .Values.config.mode -}}
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
image: {{ include "gateway.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
env:
  # The probes and Services below rely on these; the kubelet comes from outside the pod.
  - name: GATEWAY__HTTP__PUBLIC_HOST
    value: "0.0.0.0"
  - name: GATEWAY__HTTP__PUBLIC_PORT
    value: "8080"
  - name: GATEWAY__HTTP__INTERNAL_HOST
    value: "0.0.0.0"
  - name: GATEWAY__HTTP__INTERNAL_PORT
    value: "8081"
  {{- range $name, $value := .Values.env }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
{{- if .Values.secretAsEnv }}
envFrom:
  - secretRef:
      name: {{ .Values.existingSecret }}
{{- end }}
volumeMounts:
  - name: config
    mountPath: /etc/reminder-gateway
    readOnly: true
  - name: tmp
    mountPath: /tmp
{{- if .Values.secretAsFiles }}
  - name: secrets
    mountPath: {{ .Values.secretDirectory }}
    readOnly: true
{{- end }}
{{- end -}}

{{- define "gateway.volumes" -}}
- name: config
  configMap:
    name: {{ .configMap }}
- name: tmp
  emptyDir: {}
{{- if .root.Values.secretAsFiles }}
- name: secrets
  secret:
    secretName: {{ .root.Values.existingSecret }}
    defaultMode: 0440
{{- end }}
{{- end -}}
