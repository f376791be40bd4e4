{{/*
The processes of a site, and who may connect to whom. Deployments, Services, NetworkPolicies and budgets are made from it.
  port: where it serves; `from` may connect to it, `to` names what it connects to (another process, or a part of `network`)
  secrets: of `.Values.secrets`, as environment variables
  account: has a service account with a token of its own
*/}}
{{- define "imgpipeline.processes" -}}
code:
  command: [dagster, code-server, start, -m, imgpipeline.definitions, --host, 0.0.0.0, --port, "4000"]
  port: 4000
  from: [daemon, webserver]
  to: [kafka, store, postgres, kubernetesApi]
  secrets: [site, dagster]
  account: true
  probe: {grpc: {port: 4000, service: DagsterApi}}
daemon:
  command: [dagster-daemon, run, -w, /etc/imgpipeline/dagster/workspace.yaml]
  to: [code, postgres, kubernetesApi]
  secrets: [dagster]
  account: true
  single: true
  probe: {exec: {command: [dagster-daemon, liveness-check]}}
  slowProbe: true
webserver:
  command: [dagster-webserver, -h, 0.0.0.0, -p, "3000", -w, /etc/imgpipeline/dagster/workspace.yaml]
  port: 3000
  from: [proxy]
  to: [code, store, postgres, kubernetesApi]
  secrets: [site, dagster]
  account: true
  probe: {httpGet: {path: /server_info, port: 3000}}
{{- if .Values.viewer.enabled }}
viewer:
  command: [imgpipeline, serve, --host, 0.0.0.0, --port, "8050"]
  port: 8050
  from: [proxy]
  to: [kafka, store]
  secrets: [site]
  keys: true
  probe: {httpGet: {path: /health, port: 8050}}
{{- end }}
{{- if .Values.ingest.enabled }}
ingest:
  command: [imgpipeline, serve-ingest, --host, 0.0.0.0, --port, "8060"]
  port: 8060
  from: [senders]
  to: [kafka, store]
  secrets: [site]
  keys: true
  probe: {httpGet: {path: /health, port: 8060}}
  readiness: {httpGet: {path: /ready, port: 8060}}
{{- end }}
{{- if .Values.sources.enabled }}
sources:
  command: [imgpipeline, --health-port, "5003", --health-address, 0.0.0.0, sources, run, /etc/imgpipeline/sources/sources.toml,
            --metrics-port, "9464", --metrics-address, 0.0.0.0]
  port: 9464
  from: [monitoring]
  to: [kafka, store, cameras]
  secrets: [site{{ with .Values.secrets.cameras }}, cameras{{ end }}]
  single: true
  # Not /health on 9464: it fails while one camera is away, which a restart does not mend.
  probe: {httpGet: {path: /, port: 5003}}
{{- end }}
{{- if .Values.exporter.enabled }}
exporter:
  command: [imgpipeline, exporter, --host, 0.0.0.0, --port, "9465"]
  port: 9465
  from: [monitoring]
  to: [kafka, store]
  secrets: [site]
  probe: {httpGet: {path: /, port: 9465}}
{{- end }}
{{- end }}

{{/* Connections of the pods of runs, which K8sRunLauncher makes; nobody connects to them. */}}
{{- define "imgpipeline.run" -}}
to: [kafka, store, postgres, targets]
{{- end }}

{{/* Labels by which Services and NetworkPolicies find pods: (list root component). */}}
{{- define "imgpipeline.selector" -}}
app.kubernetes.io/name: imgpipeline
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "imgpipeline.labels" -}}
{{ include "imgpipeline.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
{{- end }}

{{/* In camelCase, which K8sRunLauncher reads too: pods of runs have the same. */}}
{{- define "imgpipeline.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "imgpipeline.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "imgpipeline.volumes" -}}
- {name: tmp, emptyDir: {}}
- {name: home, emptyDir: {}}
- {name: dagster, configMap: {name: {{ .Release.Name }}-dagster}}
{{- with .Values.secrets.certificates }}
- {name: certificates, secret: {secretName: {{ . }}}}
{{- end }}
{{- end }}

{{- define "imgpipeline.volumeMounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: home, mountPath: /var/lib/imgpipeline}
- {name: dagster, mountPath: /etc/imgpipeline/dagster, readOnly: true}
{{- with .Values.secrets.certificates }}
- {name: certificates, mountPath: /etc/imgpipeline/certificates, readOnly: true}
{{- end }}
{{- end }}
