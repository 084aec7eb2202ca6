{{- /*
What the schema cannot say, or cannot say so that it helps. Rendered before everything else, it gives no text or fails
with a sentence: what is wrong, and what to do instead.
*/ -}}
{{- define "gateway.checks" -}}
{{- include "gateway.checkMode" . -}}
{{- include "gateway.checkConfig" . -}}
{{- include "gateway.checkSecrets" (dict "at" "config" "value" .Values.config) -}}
{{- include "gateway.checkEnv" . -}}
{{- include "gateway.checkReferences" . -}}
{{- include "gateway.checkTracing" . -}}
{{- include "gateway.checkScale" . -}}
{{- if and .Values.serviceMonitor.enabled (not .Values.serviceMonitor.environment) -}}
{{- fail "serviceMonitor.environment is needed: the alert rules keep one ledger apart from another by it, and know by `production` that the mode must be live" -}}
{{- end -}}
{{- end -}}

{{- define "gateway.checkMode" -}}
{{- $_ := required "config.mode is needed, say whom this gateway may reach: `simulate` (nobody, every provider is on loopback), `allowlist` (only the addresses whose indexes config.allowlist lists) or `live` (every borrower a request names)" .Values.config.mode -}}
{{- end -}}

{{- define "gateway.checkConfig" -}}
{{- if hasKey .Values.config "roles" -}}
{{- fail "config.roles is the chart's business: leave it out. scaleApart: true makes a Deployment for each role; without it one Deployment has them all" -}}
{{- end -}}
{{- end -}}

{{- /* A key by the name of a secret holds references and nothing else, however deep. What is there is never shown. */ -}}
{{- define "gateway.checkSecrets" -}}
{{- $at := .at -}}
{{- if kindIs "map" .value -}}
{{- range $key, $value := .value -}}
{{- $path := printf "%s.%s" $at $key -}}
{{- if and (regexMatch "(^|_)(dsn|password|secret|tokens?|keys?|headers|credentials)$" (toString $key)) (eq (include "gateway.onlyReferences" $value) "no") -}}
{{- fail (printf "%s is a secret and must not stand in the values: put it into the Secret that existingSecret names, and write `file:/path` or `env:NAME` here" $path) -}}
{{- end -}}
{{- include "gateway.checkSecrets" (dict "at" $path "value" $value) -}}
{{- end -}}
{{- else if kindIs "slice" .value -}}
{{- range $index, $value := .value -}}
{{- include "gateway.checkSecrets" (dict "at" (printf "%s.%d" $at $index) "value" $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* "yes" when a value, and all in it, is a reference or nothing. */ -}}
{{- define "gateway.onlyReferences" -}}
{{- $answer := "yes" -}}
{{- if kindIs "map" . -}}
{{- range . -}}{{- if eq (include "gateway.onlyReferences" .) "no" -}}{{- $answer = "no" -}}{{- end -}}{{- end -}}
{{- else if kindIs "slice" . -}}
{{- range . -}}{{- if eq (include "gateway.onlyReferences" .) "no" -}}{{- $answer = "no" -}}{{- end -}}{{- end -}}
{{- else if not (or (kindIs "invalid" .) (regexMatch "^(env:[A-Za-z_][A-Za-z0-9_]*|file:/.+)$" (toString .))) -}}
{{- $answer = "no" -}}
{{- end -}}
{{- $answer -}}
{{- end -}}

{{- define "gateway.checkEnv" -}}
{{- range $name, $value := .Values.env -}}
{{- if regexMatch "(?i)^GATEWAY__(MODE|ROLES|HTTP|HTTP__(PUBLIC|INTERNAL)_(HOST|PORT)|SHUTDOWN|SHUTDOWN__.*|KAFKA|KAFKA__(BOOTSTRAP|GROUP|REQUESTS_TOPIC|SECURITY|SECURITY__.*))$" $name -}}
{{- fail (printf "env.%s would contradict what the chart relies on: the mode, the shutdown, and how Kafka is reached and read (KEDA asks for the lag of the same) belong into config; roles, hosts and ports are the chart's business" $name) -}}
{{- end -}}
{{- if and (regexMatch "(?i)^GATEWAY__.*(DSN|PASSWORD|SECRET|TOKENS?|KEYS?|HEADERS|CREDENTIALS)(__[^_]+)?$" $name) (not (regexMatch "^(env:[A-Za-z_]|file:/.)" (toString $value))) -}}
{{- fail (printf "env.%s is a secret and must not stand in the values: put it into the Secret that existingSecret names, and set secretAsEnv or write `file:/path` into config" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "gateway.checkReferences" -}}
{{- $text := toJson .Values.config -}}
{{- if and (not .Values.secretAsFiles) (contains (printf "\"file:%s/" .Values.secretDirectory) $text) -}}
{{- fail (printf "config reads secrets under %s, where secretAsFiles: false puts none" .Values.secretDirectory) -}}
{{- end -}}
{{- if not .Values.secretAsEnv -}}
{{- range regexFindAll "\"env:[A-Za-z_][A-Za-z0-9_]*\"" $text -1 -}}
{{- $name := . | trimPrefix "\"env:" | trimSuffix "\"" -}}
{{- if not (hasKey $.Values.env $name) -}}
{{- fail (printf "config reads the variable %s, which nobody sets: with secretAsEnv: true every key of the Secret %q is one; better, write `file:%s/KEY`, which rotates" $name $.Values.existingSecret $.Values.secretDirectory) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "gateway.checkTracing" -}}
{{- $policy := .Values.networkPolicy -}}
{{- if and .Values.config.tracing $policy.enabled (not $policy.egress.collector.ports) (not $policy.egress.extra) -}}
{{- fail "config.tracing sends spans to a collector that the network policy keeps every pod from: name its port (OTLP over HTTP, usually 4318) in networkPolicy.egress.collector.ports, or write a rule into networkPolicy.egress.extra" -}}
{{- end -}}
{{- end -}}

{{- define "gateway.checkScale" -}}
{{- $processes := 0 -}}
{{- range (include "gateway.deployments" . | fromJson).all -}}
{{- $hpa := .of.hpa.enabled -}}
{{- $keda := .of.keda.enabled -}}
{{- if and $hpa $keda -}}
{{- fail (printf "%s.hpa and %s.keda are both enabled, and would pull at the same Deployment: keep one (KEDA makes an autoscaler of its own)" .at .at) -}}
{{- end -}}
{{- $scaled := ternary .of.hpa .of.keda $hpa -}}
{{- $auto := or $hpa $keda -}}
{{- if and $auto (gt (int $scaled.minReplicas) (int $scaled.maxReplicas)) -}}
{{- fail (printf "%s: minReplicas is %d and maxReplicas only %d" .at (int $scaled.minReplicas) (int $scaled.maxReplicas)) -}}
{{- end -}}
{{- $most := int (ternary $scaled.maxReplicas .of.replicas $auto) -}}
{{- if has "intake" .roles -}}
{{- if and $auto (not $.Values.requestPartitions) -}}
{{- fail (printf "requestPartitions is needed where %s is scaled automatically: how many partitions the request topic has, which is how many processes can read it" .at) -}}
{{- end -}}
{{- if and $.Values.requestPartitions (gt $most (int $.Values.requestPartitions)) -}}
{{- fail (printf "%s may have %d replicas, but the request topic has %d partitions, and no more processes than that can read it: take fewer, add partitions (and raise requestPartitions), or set scaleApart: true and scale roles.dispatch alone" .at $most (int $.Values.requestPartitions)) -}}
{{- end -}}
{{- end -}}
{{- if $hpa -}}
{{- if not (dig "requests" "cpu" "" .of.resources) -}}
{{- fail (printf "%s.hpa counts a share of the CPU that is requested: set %s.resources.requests.cpu" .at .at) -}}
{{- end -}}
{{- end -}}
{{- if $keda -}}
{{- include "gateway.checkKeda" (dict "root" $ "deployment" .) -}}
{{- end -}}
{{- /* One more while a new version is rolled out. */ -}}
{{- $processes = add $processes $most (ternary 0 1 (eq $most 0)) -}}
{{- end -}}
{{- if gt (int $processes) 64 -}}
{{- fail (printf "there may be %d processes, one more of each Deployment during a rollout included, and the ledger has numbers for 64: take fewer replicas" $processes) -}}
{{- end -}}
{{- end -}}

{{- define "gateway.checkKeda" -}}
{{- $values := .root.Values -}}
{{- $at := .deployment.at -}}
{{- $roles := .deployment.roles -}}
{{- if not (or (has "intake" $roles) (has "dispatch" $roles)) -}}
{{- fail (printf "%s.keda has nothing to go by: KEDA scales intake on Kafka's lag and dispatch on the age of the oldest due reminder; take %s.hpa" $at $at) -}}
{{- end -}}
{{- if has "intake" $roles -}}
{{- if not (dig "kafka" "bootstrap" "" $values.config) -}}
{{- fail (printf "%s.keda asks Kafka for its lag: config.kafka.bootstrap is needed" $at) -}}
{{- end -}}
{{- $protocol := dig "kafka" "security" "protocol" "PLAINTEXT" $values.config -}}
{{- if and (ne $protocol "PLAINTEXT") (not $values.keda.lag.authenticationRef) -}}
{{- fail (printf "%s.keda asks Kafka for its lag, by %s: keda.lag.authenticationRef must name a TriggerAuthentication with what that takes" $at $protocol) -}}
{{- end -}}
{{- else if not $values.keda.oldestDue.serverAddress -}}
{{- fail (printf "%s.keda asks Prometheus how long the oldest due reminder has been due: keda.oldestDue.serverAddress is needed" $at) -}}
{{- end -}}
{{- end -}}
