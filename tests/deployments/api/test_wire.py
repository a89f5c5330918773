"""What holds for every route: HEAD, a slash at the end, a client that goes away, addresses without a prefix."""

import logging
import re
import socket
import time
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
import numpy as np
import pytest
from starlette.routing import Route

from deployments.settings.application import AppArgs, IngressArgs
from stages.local.mp4 import write_mp4
from stages.types import Clip
from tests.deployments.api.served import Served
from tests.deployments.api.test_creating import PNG
from tests.deployments.rig import BODY, Rig, error_of
from tests.deployments.studies.making import PROMPTS, links, rater, ready, standing, systems, vote


def gets(rig: Rig) -> list[str]:
    """Every path that GET is answered at without a rater's link."""
    found = [route for route in rig.app.routes if isinstance(route, Route) and "GET" in (route.methods or ())]
    return [route.path_format for route in found if not route.path_format.startswith("/v1/rate")]


@pytest.mark.slow
async def test_head_is_get_without_the_body_on_every_route(rig: Rig, tmp_path: Path) -> None:
    write_mp4(tmp_path / "two.mp4", [Clip(np.zeros((2, 32, 64, 3), np.uint8), 24.0)])
    video_id = await rig.finished((tmp_path / "two.mp4").read_bytes())
    sent = await rig.http.post("/v1/files", files={"file": ("fox.png", PNG)})
    study = await ready(rig, systems=await systems(rig, ("x", "y", "z"), PROMPTS[:2]), raters=5, identical=0, swapped=0)
    for link in await links(rig.http, study.id):
        person = rater(rig, link)
        while (trial := (await standing(person)).next) is not None:
            await vote(person, trial.id, "same")
    names = {"video_id": video_id, "file_id": sent.json()["id"], "model": "tiny", "study_id": study.id}
    parts = {"/assets/{name}": "main.js"}
    paths = [path.format(**names, name=parts.get(path, "bars")) for path in gets(rig)]
    assert {"/", "/healthz", "/metrics", "/v1/videos", "/v1/pools", "/assets/main.js"} <= set(paths)
    for path in paths:
        head, get = await rig.http.head(path), await rig.http.get(path)
        expected = 204 if path.endswith("/glimpse") else 200  # nothing is drawn of a job that has ended
        assert (head.status_code, head.content) == (expected, b""), path
        changing = ("content-length",) if path == "/metrics" else ()
        assert [one for one in head.headers.items() if one[0] not in changing] == [
            one for one in get.headers.items() if one[0] not in changing
        ], path
    unknown = await rig.http.head("/v1/videos/video_x")
    assert (unknown.status_code, unknown.content) == (404, b"")
    assert (await rig.http.head("/v1/videos/video_x/cancel")).headers["allow"] == "POST"
    refused = await rig.http.patch("/v1/videos")
    assert refused.headers["allow"] == "GET, HEAD, POST"


async def test_head_does_not_wait_for_what_has_no_end(rig: Rig) -> None:
    video = await rig.create()
    head = await rig.http.head(f"/v1/videos/{video.id}/events")
    assert (head.status_code, head.content, head.headers["x-accel-buffering"]) == (200, b"", "no")


def test_head_over_a_socket_leaves_the_connection_usable(served: Served) -> None:
    video_id = served.create("a fox")
    with httpx.Client(base_url=served.url) as client:
        for path in ("/", "/healthz", "/v1/videos", f"/v1/videos/{video_id}", f"/v1/videos/{video_id}/events"):
            assert client.head(path).status_code == 200, path
        assert client.get(f"/v1/videos/{video_id}").json()["id"] == video_id


async def test_a_slash_at_the_end_is_no_other_path_and_no_redirect(rig: Rig) -> None:
    made = await rig.http.post("/v1/videos/", json=BODY)
    assert (made.status_code, (await rig.http.get(f"/v1/videos/{made.json()['id']}/")).status_code) == (200, 200)
    assert error_of(await rig.http.get("/nothing/"), 404).code == "unknown_route"


async def test_an_answer_names_no_address_that_a_prefix_would_break(rig: Rig) -> None:
    rig.app = rig.served(AppArgs(ingress=IngressArgs(sync_limit_s=0.01)))
    answer = await rig.client().post("/v1/videos/sync?format=json", json=BODY)
    assert answer.status_code == 202
    there = urljoin("http://studio.example/films/v1/videos/sync", answer.headers["location"])
    assert urlsplit(there).path == f"/films/v1/videos/{answer.json()['id']}"
    assert not re.search(r'"[^"]*(?:https?://|/v1/)[^"]*"', answer.text)


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=b"])
def test_half_a_body_is_a_line_for_who_debugs(served: Served, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "deployments")
    with socket.create_connection(("127.0.0.1", urlsplit(served.url).port or 0)) as half:
        head = f"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 500\r\n\r\n"
        half.sendall(head.encode() + b'{"prompt": "a f')
    deadline = time.monotonic() + 120
    while not (said := [record for record in caplog.records if "went away" in record.getMessage()]):
        assert time.monotonic() < deadline, "waited 120 s for the line"
        time.sleep(0.02)
    assert (said[0].levelname, said[0].getMessage()) == ("DEBUG", "POST /v1/videos: the client went away.")
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]
    assert served.journal.counts() == {}
