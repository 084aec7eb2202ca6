{{- /* One rule of egress: {to, ports}, or nothing without ports. `protocols` as a list. */ -}}
{{- define "gateway.egress" -}}
{{- if .rule.ports -}}
- ports:
    {{- range $port := .rule.ports }}
    {{- range $.protocols }}
    - {protocol: {{ . }}, port: {{ int $port }}}
    {{- end }}
    {{- end }}
  {{- with .rule.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
{{- end -}}

{{- /* The release's own pods, as a peer; not the migration's. */ -}}
{{- define "gateway.ownPods" -}}
- podSelector:
    matchLabels:
      {{- include "gateway.selector" . | nindent 6 }}
{{- end -}}

{{- /* What everybody needs, and what only some roles do. The migration has none: `roles` is empty. */ -}}
{{- define "gateway.egressOf" -}}
{{- $egress := .root.Values.networkPolicy.egress -}}
{{- $roles := .roles -}}
{{ include "gateway.egress" (dict "rule" $egress.dns "protocols" (list "UDP" "TCP")) }}
{{ include "gateway.egress" (dict "rule" $egress.postgres "protocols" (list "TCP")) }}
{{- if or (has "intake" $roles) (has "relay" $roles) }}
{{ include "gateway.egress" (dict "rule" $egress.kafka "protocols" (list "TCP")) }}
{{- end }}
{{- if has "dispatch" $roles }}
{{ include "gateway.egress" (dict "rule" $egress.providers "protocols" (list "TCP")) }}
{{ include "gateway.egress" (dict "rule" $egress.proxy "protocols" (list "TCP")) }}
{{- end }}
{{- if $roles }}
# Each other's metrics, which the commands of the operator ask for (`--metrics`).
- ports:
    - {protocol: TCP, port: 8081}
  to:
    {{- include "gateway.ownPods" .root | nindent 4 }}
{{ include "gateway.egress" (dict "rule" $egress.collector "protocols" (list "TCP")) }}
{{- with $egress.extra }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end -}}
