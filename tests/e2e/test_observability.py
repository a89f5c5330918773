"""Numbers of a running server at its one scrape point."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deployments.observe.metrics import TABLE
from tests.e2e.rig import Rig, wait_for

pytestmark = pytest.mark.slow

RARE = {  # of faults, cancels in the midst, urgent jobs, old files, servers with a collector
    *("magicvideo_stage_retries", "magicvideo_wasted_gpu_seconds"),
    *("magicvideo_stage_yields", "magicvideo_stage_parked_s"),
    *("magicvideo_swept", "magicvideo_traces"),
}


def test_a_scrape_holds_every_number_of_the_table_and_they_are_right(rig: Rig) -> None:
    parent = rig.ended(rig.create(seed=31).id)
    remix = rig.http.post(f"/v1/videos/{parent.id}/remix", json={"from_stage": "v2v", "seed": 32}).json()["id"]
    rig.ended(remix)
    assert rig.http.post("/v1/videos", json={"prompt": ""}).status_code == 400
    wanted = {series.scraped(name) for name, series in TABLE.items() if name not in RARE}

    def values() -> dict[tuple[str, frozenset[tuple[str, str]]], float] | None:
        text = rig.http.get("/metrics").text
        families = list(text_string_to_metric_families(text))
        there = {family.name + ("_total" if family.type == "counter" else "") for family in families}
        if not wanted <= there:
            return None
        found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for sample in (sample for family in families for sample in family.samples):
            own = frozenset((key, value) for key, value in sample.labels.items() if key in ("stage", "state", "origin"))
            found[sample.name, own] = found.get((sample.name, own), 0.0) + sample.value
        taken = found.get(("ray_magicvideo_outputs_taken_over_total", at(stage="t2i", origin="reused")), 0.0)
        return found if taken >= 1 else None

    def at(**labels: str) -> frozenset[tuple[str, str]]:
        return frozenset(labels.items())

    found = wait_for("every number", values, every_s=0.5)
    assert found["ray_magicvideo_jobs_total", at(state="succeeded")] >= 2
    assert found["ray_magicvideo_stage_run_s_count", at(stage="i2v")] >= 1
    assert found["ray_magicvideo_saved_gpu_seconds_total", at(stage="i2v")] > 0.3
    assert found["magicvideo_stage_replicas", at(stage="v2v")] == 1
    assert found["ray_magicvideo_job_first_frame_s_count", at()] >= 1
