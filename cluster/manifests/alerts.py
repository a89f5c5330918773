"""What Prometheus is told: where the server is scraped, and when somebody must look.

One scrape of the Service is enough: any ingress replica answers for the whole cluster. Expressions ask for metrics that
the server exports and for `up`, which is Prometheus' own. Knows nothing of where alerts are sent.
"""

from dataclasses import dataclass
from typing import Any

from cluster.manifests.site import NAME, Site

KEY_FILE = "/etc/prometheus/magicvideo/api-key"
RULES_FILE = "alerts.yml"


@dataclass(frozen=True)
class Alert:
    """One rule; `lasts` is how long it must hold."""

    name: str
    expr: str
    lasts: str
    severity: str
    summary: str
    to_do: str


ALERTS = (
    Alert(
        "MagicvideoServerDown",
        f'up{{job="{NAME}"}} == 0',
        "2m",
        "critical",
        "The server does not answer a scrape.",
        "kubectl get rayservice,pods; a 401 or 403 means that Prometheus' API key is missing or revoked.",
    ),
    Alert(
        "MagicvideoQueueGrows",
        'deriv(magicvideo_jobs_in_state{state="queued"}[15m]) > 0 '
        "and on (instance) magicvideo_oldest_queued_s > 120",
        "15m",
        "warning",
        "Jobs come faster than they are made.",
        "Find the stage with the most waiting calls; raise its max_replicas and its pool's nodes.max, or expect 429.",
    ),
    Alert(
        "MagicvideoJobWaitsTooLong",
        "magicvideo_oldest_queued_s > 900",
        "5m",
        "critical",
        "A job has waited for {{ $value | humanizeDuration }}.",
        "Compare replicas with those wanted; look at pipeline.max_jobs and at tenants' max_running.",
    ),
    Alert(
        "MagicvideoJobsFail",
        'sum(rate(ray_magicvideo_jobs_total{state="failed"}[15m])) / sum(rate(ray_magicvideo_jobs_total[15m])) > 0.05',
        "10m",
        "critical",
        "{{ $value | humanizePercentage }} of the jobs fail.",
        "GET /v1/videos/{id} of a failed job names the stage and the cause.",
    ),
    Alert(
        "MagicvideoStageCallsFail",
        'sum by (stage) (rate(ray_magicvideo_stage_calls_total{outcome="failed"}[15m])) '
        "/ sum by (stage) (rate(ray_magicvideo_stage_calls_total[15m])) > 0.05",
        "10m",
        "warning",
        "{{ $value | humanizePercentage }} of the calls of {{ $labels.stage }} fail.",
        "The replica's log has the exception; repeated calls hide it from users until stage_failures is used up.",
    ),
    Alert(
        "MagicvideoSecondsWasted",
        "sum by (stage) (rate(ray_magicvideo_wasted_gpu_seconds_total[30m])) "
        "/ sum by (stage) (rate(ray_magicvideo_stage_run_s_sum[30m])) > 0.1",
        "30m",
        "warning",
        "{{ $labels.stage }} computes what nobody takes: {{ $value | humanizePercentage }} of its useful seconds.",
        "Nodes that go away, run_timeout_s below the p99, or users who cancel.",
    ),
    Alert(
        "MagicvideoStageWithoutReplica",
        "magicvideo_stage_replicas == 0 and (magicvideo_stage_replicas_wanted > 0 or magicvideo_stage_waiting > 0)",
        "5m",
        "critical",
        "Stage {{ $labels.stage }} has no replica.",
        "GET /healthz says which pool is missing; look at the autoscaler's log and at the cloud's quota.",
    ),
    Alert(
        "MagicvideoReplicasMissing",
        "magicvideo_stage_replicas < magicvideo_stage_replicas_wanted",
        "15m",
        "warning",
        "Stage {{ $labels.stage }} has fewer replicas than it asks for.",
        "No node is free or comes; look at the autoscaler's log and at the cloud's quota.",
    ),
    Alert(
        "MagicvideoCheckpointsFail",
        'sum by (stage) (increase(ray_magicvideo_checkpoints_total{outcome="failed"}[15m])) > 0',
        "5m",
        "warning",
        "Outputs of {{ $labels.stage }} cannot be kept, so a restarted job computes them again.",
        "The artifact store is full or does not answer; the keeper's log has the reason.",
    ),
    Alert(
        "MagicvideoRequestsFail",
        'sum(rate(ray_magicvideo_requests_total{status=~"5..",route!="/healthz"}[5m])) '
        '/ sum(rate(ray_magicvideo_requests_total{route!="/healthz"}[5m])) > 0.02',  # whose 503 is an answer
        "5m",
        "critical",
        "{{ $value | humanizePercentage }} of the answers are errors of the server.",
        "The ingress' log has them with the job's id; first ask whether the database answers.",
    ),
    Alert(
        "MagicvideoScrapeLacks",
        "magicvideo_scrape_lacks > 0",
        "10m",
        "warning",
        "{{ $value }} nodes do not tell their numbers, so every rate is too low.",
        "Ray's agent of those nodes is dead or a firewall closes its port; the ingress' log names the addresses.",
    ),
)  # fmt: skip


def rules() -> dict[str, Any]:
    """The rule file."""
    return {
        "groups": [
            {
                "name": NAME,
                "rules": [
                    {
                        "alert": alert.name,
                        "expr": alert.expr,
                        "for": alert.lasts,
                        "labels": {"severity": alert.severity},
                        "annotations": {"summary": alert.summary, "description": alert.to_do},
                    }
                    for alert in ALERTS
                ],
            }
        ]
    }


def scrape_config(site: Site) -> dict[str, Any]:
    """Prometheus' own file, for one in the same namespace."""
    return {
        "global": {"scrape_interval": "15s", "scrape_timeout": "10s", "evaluation_interval": "15s"},
        "rule_files": [RULES_FILE],
        "scrape_configs": [
            {
                "job_name": NAME,
                "metrics_path": site.metrics_path,
                "authorization": {"type": "Bearer", "credentials_file": KEY_FILE},
                "static_configs": [{"targets": [f"{NAME}-serve-svc:{site.port}"]}],
            }
        ],
    }
