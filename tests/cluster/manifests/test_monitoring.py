"""Alerts and dashboard: of metrics that exist, in PromQL that Prometheus takes, and firing when they should."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.manifests.alerts import ALERTS, rules
from cluster.manifests.dashboard import dashboard
from tests.cluster.manifests.prometheus import SCRAPED, Prometheus, files, needs_prometheus, running

SHOWN = dashboard({"small": 2.4, "big": 24.0})  # of a node of the committed pools
PANELS: list[dict[str, Any]] = [panel for panel in SHOWN["panels"] if panel["type"] != "row"]
QUERIES = {f"{p['title']}: {t['legendFormat']}": str(t["expr"]) for p in PANELS for t in p["targets"]}
EVERY = QUERIES | {alert.name: alert.expr for alert in ALERTS}
SELECTOR = re.compile(r"\b(?:ray_magicvideo_\w+|magicvideo_\w+|up)\b(?:\{[^}]*\})?")
TOOL_S = 120


def family(name: str) -> str:
    """The metric of a series."""
    base = re.sub(r"_(bucket|count|sum)$", "", name)
    return base if SCRAPED.get(base) is not None and SCRAPED[base].kind == "histogram" else name


@pytest.mark.parametrize("title", EVERY)
def test_a_query_asks_for_what_is_exported(title: str) -> None:
    query = EVERY[title]
    selectors = SELECTOR.findall(query)
    assert selectors
    for selector in selectors:
        name = selector.partition("{")[0]
        if name == "up":
            continue
        metric = SCRAPED[family(name)]
        assert (metric.kind == "histogram") == (family(name) != name), "a histogram has no series of its bare name"
        assert set(re.findall(r"[{,](\w+)=", selector)) <= set(metric.labels)
    grouped = {label for names in re.findall(r"by \(([\w, ]*)\)", query) for label in names.split(", ")}
    known = {
        label
        for s in selectors
        for label in SCRAPED.get(family(s.partition("{")[0]), SCRAPED["magicvideo_scrape_lacks"]).labels
    }
    assert grouped <= known | {"le"}


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {family(s.partition("{")[0]) for query in QUERIES.values() for s in SELECTOR.findall(query)}
    assert shown - {"up"} == set(SCRAPED)


def test_panels_lie_side_by_side_and_have_numbers_of_their_own() -> None:
    panels = SHOWN["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert json.loads(files()["grafana/dashboard.json"]) == SHOWN


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with running(tmp_path_factory.mktemp("prometheus")) as found:
        yield found


@pytest.mark.slow
@needs_prometheus
@pytest.mark.parametrize("title", EVERY)
def test_prometheus_takes_a_query_and_finds_each_of_its_series(title: str, prometheus: Prometheus) -> None:
    query = EVERY[title].replace("$__rate_interval", "1m")
    prometheus.result_of(query)
    for selector in SELECTOR.findall(query):
        assert prometheus.ask("series", **{"match[]": selector}), f"no series is {selector}"
    if title in QUERIES:
        assert prometheus.result_of(query), "the panel would be empty"


@pytest.mark.slow
@needs_prometheus
def test_prometheus_loads_the_rules_without_a_complaint(prometheus: Prometheus) -> None:
    (group,) = prometheus.ask("rules")["groups"]
    assert [rule["name"] for rule in group["rules"]] == [alert.name for alert in ALERTS]
    assert {rule["health"] for rule in group["rules"]} <= {"ok", "unknown"}  # unknown: not evaluated yet
    (target,) = prometheus.ask("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")


@pytest.mark.slow
@needs_prometheus
def test_promtool_finds_nothing_wrong(tmp_path: Path) -> None:
    for name in ("alerts.yml", "prometheus.yml"):
        (tmp_path / name).write_text(files()[f"prometheus/{name}"])
    for check in (["rules", "--lint-fatal", "alerts.yml"], ["config", "--syntax-only", "prometheus.yml"]):
        command = ["promtool", "check", *check]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=TOOL_S)
        assert done.returncode == 0, done.stdout + done.stderr


# Two hours of each minute's number, in promtool's notation: start+step x times.
WELL: dict[str, str] = {
    'up{job="magicvideo"}': "1x120",
    'magicvideo_jobs_in_state{state="queued"}': "3x120",
    "magicvideo_oldest_queued_s": "20x120",
    'ray_magicvideo_jobs_total{state="succeeded"}': "0+10x120",
    'ray_magicvideo_jobs_total{state="failed"}': "0x120",
    'ray_magicvideo_stage_calls_total{stage="v2v",outcome="completed"}': "0+30x120",
    'ray_magicvideo_stage_calls_total{stage="v2v",outcome="failed"}': "0x120",
    'ray_magicvideo_stage_run_s_sum{stage="v2v"}': "0+900x120",
    'ray_magicvideo_wasted_gpu_seconds_total{stage="v2v"}': "0+10x120",
    'magicvideo_stage_replicas{stage="v2v"}': "2x120",
    'magicvideo_stage_replicas_wanted{stage="v2v"}': "2x120",
    'magicvideo_stage_waiting{stage="v2v"}': "1x120",
    'ray_magicvideo_checkpoints_total{stage="v2v",outcome="failed"}': "0x120",
    'ray_magicvideo_requests_total{status="200"}': "0+100x120",
    'ray_magicvideo_requests_total{status="503"}': "0x120",
    'ray_magicvideo_requests_total{route="/healthz",status="503"}': "0+10x120",  # what lacks has alerts of its own
    "magicvideo_scrape_lacks": "0x120",
}
ILL: dict[str, dict[str, str]] = {
    "MagicvideoServerDown": {'up{job="magicvideo"}': "0x120"},
    "MagicvideoQueueGrows": {
        'magicvideo_jobs_in_state{state="queued"}': "3+1x120",
        "magicvideo_oldest_queued_s": "300x120",
    },
    "MagicvideoJobWaitsTooLong": {"magicvideo_oldest_queued_s": "1000x120"},
    "MagicvideoJobsFail": {'ray_magicvideo_jobs_total{state="failed"}': "0+1x120"},
    "MagicvideoStageCallsFail": {'ray_magicvideo_stage_calls_total{stage="v2v",outcome="failed"}': "0+3x120"},
    "MagicvideoSecondsWasted": {'ray_magicvideo_wasted_gpu_seconds_total{stage="v2v"}': "0+100x120"},
    "MagicvideoStageWithoutReplica": {
        'magicvideo_stage_replicas{stage="v2v"}': "0x120",
        'magicvideo_stage_replicas_wanted{stage="v2v"}': "0x120",  # scaled to zero, and a call waits all the same
    },
    "MagicvideoReplicasMissing": {'magicvideo_stage_replicas{stage="v2v"}': "1x120"},
    "MagicvideoCheckpointsFail": {'ray_magicvideo_checkpoints_total{stage="v2v",outcome="failed"}': "0+1x120"},
    "MagicvideoRequestsFail": {'ray_magicvideo_requests_total{status="503"}': "0+10x120"},
    "MagicvideoScrapeLacks": {"magicvideo_scrape_lacks": "1x120"},
}
ZERO = {name: "0x120" for name in WELL if name.startswith("magicvideo_stage_")}


@pytest.mark.slow
@needs_prometheus
def test_each_alert_fires_for_its_trouble_alone(tmp_path: Path) -> None:
    assert set(ILL) == {alert.name for alert in ALERTS}
    cases = [case(series, fires=()) for series in (WELL, WELL | ZERO)]
    cases += [case(WELL | change, fires=(name,)) for name, change in ILL.items()]
    (tmp_path / "alerts.yml").write_text(files()["prometheus/alerts.yml"])
    test = {"rule_files": ["alerts.yml"], "evaluation_interval": "1m", "tests": cases}
    (tmp_path / "test.yml").write_text(json.dumps(test))
    command = ["promtool", "test", "rules", "test.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=TOOL_S)
    assert done.returncode == 0, done.stdout + done.stderr


def case(series: dict[str, str], fires: tuple[str, ...]) -> dict[str, Any]:
    """After 100 minutes these alerts fire, and no other. One number per alert: promtool compares texts whole."""
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count by (alertname) (ALERTS{{alertstate="firing",alertname="{rule["alert"]}"}})',
                "eval_time": "100m",
                "exp_samples": [{"labels": f'{{alertname="{rule["alert"]}"}}', "value": 1}]
                if rule["alert"] in fires
                else [],
            }
            for rule in rules()["groups"][0]["rules"]
        ],
    }
