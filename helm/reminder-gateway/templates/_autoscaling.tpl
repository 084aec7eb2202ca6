{{- /* Quickly up, by half or two at a time; slowly down, since each that goes hands over its partitions. */ -}}
{{- define "gateway.behavior" -}}
scaleUp:
  stabilizationWindowSeconds: 30
  selectPolicy: Max
  policies:
    - {type: Percent, value: 50, periodSeconds: 60}
    - {type: Pods, value: 2, periodSeconds: 60}
scaleDown:
  stabilizationWindowSeconds: 300
  policies:
    - {type: Pods, value: 1, periodSeconds: 60}
{{- end -}}

{{- /* Facts have a group of their own, named after that of the requests. */ -}}
{{- define "gateway.lagTriggers" -}}
{{- $kafka := .Values.config.kafka -}}
{{- $group := $kafka.group | default "reminder-gateway" -}}
{{ include "gateway.lagTrigger" (list . "lag" $group ($kafka.requests_topic | default "reminders.requests")) }}
{{- with $kafka.repayments_topic }}
{{ include "gateway.lagTrigger" (list $ "repayments-lag" (printf "%s-repayments" $group) .) }}
{{- end }}
{{- end -}}

{{- define "gateway.lagTrigger" -}}
{{- $name := index . 1 -}}
{{- $group := index . 2 -}}
{{- $topic := index . 3 -}}
{{- with index . 0 -}}
- type: kafka
  name: {{ $name }}
  metadata:
    bootstrapServers: {{ .Values.config.kafka.bootstrap | quote }}
    consumerGroup: {{ $group | quote }}
    topic: {{ $topic | quote }}
    lagThreshold: {{ .Values.keda.lag.threshold | int | quote }}
    # A partition that nobody has read yet is all lag: reading begins at its start.
    offsetResetPolicy: earliest
    # More processes than partitions read nothing.
    allowIdleConsumers: "false"
    version: {{ .Values.keda.lag.kafkaVersion | quote }}
  {{- with .Values.keda.lag.authenticationRef }}
  authenticationRef:
    name: {{ . }}
  {{- end }}
{{- end -}}
{{- end -}}

{{- define "gateway.oldestDueTrigger" -}}
- type: prometheus
  name: oldest-due
  # The age is the whole ledger's and no share of it anybody's: so the target is the age itself, and replicas grow by how
  # far it is exceeded. An average would be divided by the replicas, and fall with each one more.
  metricType: Value
  metadata:
    serverAddress: {{ .Values.keda.oldestDue.serverAddress | quote }}
    query: {{ .Values.keda.oldestDue.query | default (include "gateway.oldestDueQuery" .) | quote }}
    threshold: {{ .Values.keda.oldestDue.thresholdSeconds | int | quote }}
    # No answer is not "nothing waits": then the number stays as it is.
    ignoreNullValues: "false"
  {{- with .Values.keda.oldestDue.authenticationRef }}
  authenticationRef:
    name: {{ . }}
  {{- end }}
{{- end -}}

{{- /* The service is a label of what the ServiceMonitor brings; other ways of scraping name it differently or not. */ -}}
{{- define "gateway.oldestDueQuery" -}}
{{- $service := "" -}}
{{- if .Values.serviceMonitor.enabled -}}
{{- $service = printf ",service=\"%s-internal\"" (include "gateway.name" .) -}}
{{- end -}}
max(reminder_gateway_queue_oldest_age_seconds{namespace="{{ .Release.Namespace }}"{{ $service }}})
{{- end -}}
