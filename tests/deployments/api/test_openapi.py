"""The API's description is complete and true: every route is in it, and a fuzzer finds the server as it says."""

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.routing import APIRoute
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from client.schema import Health
from deployments.api.ingress import create_app
from deployments.files.keeper import Keeper
from deployments.files.store import ArtifactStore
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.settings.application import AppArgs
from deployments.tenants.keys import KeyBook
from stages.presets import TINY
from tests.e2e.rig import wait_for
from tests.postgres import new_database

# A body may satisfy every field's type and still ask for what cannot be (end before it begins), which is refused.
LEFT_OUT = ("positive_data_acceptance",)


async def nudge() -> None:
    """Nobody listens."""


@pytest.fixture(scope="module")
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    folder = tmp_path_factory.mktemp("openapi")
    url = new_database() if getattr(request, "param", "") == "postgres" else f"sqlite:///{folder}/jobs.sqlite"
    journal, store = Journal(Database(url)), ArtifactStore(f"file://{folder}/artifacts")
    args = AppArgs()
    health = Health(status="ok", model="tiny", version="1")
    yield create_app(args, journal, store, nudge=nudge, health=lambda: health, show=Keeper(store.url).show)
    journal.database.close()


def operations(app: FastAPI) -> dict[tuple[str, str], dict[str, Any]]:
    return {(method, path): one for path, methods in app.openapi()["paths"].items() for method, one in methods.items()}


def test_every_route_is_described_and_valid_openapi(app: FastAPI) -> None:
    of_the_api = [route for route in app.routes if isinstance(route, APIRoute) and route.include_in_schema]
    routes = {(method.lower(), route.path_format) for route in of_the_api for method in route.methods or ()}
    assert routes == set(operations(app))
    assert [error.message for error in OPENAPI_31_VALIDATOR.iter_errors(app.openapi())] == []
    validate(app.openapi())


def test_every_operation_has_a_name_of_its_own_a_summary_and_our_errors(app: FastAPI) -> None:
    found = operations(app)
    names = [one["operationId"] for one in found.values()]
    assert len(set(names)) == len(names)
    assert {"create_video", "list_videos", "download_content", "head_content", "check_health"} <= set(names)
    for (method, path), one in found.items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", one["operationId"]), one["operationId"]
        assert one["summary"][0].isupper()
        assert "422" not in one["responses"], (method, path)
        for status, answer in one["responses"].items():
            if int(status) >= 400 and status != "503":
                schema = answer["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorBody"}, (method, path, status)


def test_every_operation_is_explained_with_an_example_that_holds(app: FastAPI) -> None:
    described = app.openapi()
    tags = {tag["name"] for tag in described["tags"]}
    for (method, path), one in operations(app).items():
        assert one["description"].endswith("."), (method, path)
        assert set(one["tags"]) <= tags
        [sample] = one["x-codeSamples"]
        assert sample["source"].startswith("curl http://127.0.0.1:8000/"), sample
        assert "{" not in sample["source"].replace('{"', ""), sample
        for sent in (one.get("requestBody", {}), *one["responses"].values()):
            about = sent.get("content", {}).get("application/json")
            if about is not None:
                schema = {**about["schema"], "components": described["components"]}
                assert [error.message for error in Draft202012Validator(schema).iter_errors(about["example"])] == []


def test_it_says_where_it_is_and_who_may_ask(app: FastAPI) -> None:
    described = app.openapi()
    assert described["servers"] == [{"url": "/", "description": "This server"}]
    assert described["security"] == [{"key": []}, {"session": []}]
    without_key = {path for (_, path), one in operations(app).items() if one.get("security") == []}
    assert without_key == {"/healthz", "/v1/session"}


def test_no_field_of_a_body_has_a_default_that_a_generator_would_demand(app: FastAPI) -> None:
    fields = app.openapi()["components"]["schemas"]["CreateVideo"]["properties"]
    assert not any("default" in field for field in fields.values())
    assert fields["candidates"]["description"].endswith("1 to 8. 1 when left out.")


def test_every_reference_leads_somewhere(app: FastAPI) -> None:
    described = app.openapi()
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(described)))
    assert named <= set(described["components"]["schemas"])
    assert {"CreateVideo", "CreateVideoForm", "RemixVideo"} <= named


def test_what_fastapi_cannot_know_is_said(app: FastAPI) -> None:
    created = operations(app)["post", "/v1/videos"]["requestBody"]
    assert (created["required"], set(created["content"])) == (True, {"application/json", "multipart/form-data"})
    form = app.openapi()["components"]["schemas"]["CreateVideoForm"]["properties"]
    assert form["input_video"] == {"type": "string", "format": "binary"}
    assert operations(app)["post", "/v1/videos/{video_id}/continue"]["requestBody"]["required"] is False
    whole = operations(app)["get", "/v1/videos/{video_id}/content"]["responses"]["200"]["content"]
    assert set(whole) == {"video/mp4", "image/png", "image/webp"}


def test_choices_are_those_of_the_served_preset(app: FastAPI) -> None:
    fields = app.openapi()["components"]["schemas"]["CreateVideo"]["properties"]
    assert fields["size"]["anyOf"][0]["enum"] == ["256x256"]
    assert fields["seconds"]["anyOf"][0]["enum"] == list(TINY.keyframes)


@pytest.fixture
def served(app: FastAPI) -> Iterator[str]:
    """The address of the application on a port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        wait_for("the port", lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("app", "phases"), [("sqlite", "examples,fuzzing,stateful"), ("postgres", "coverage,fuzzing")], indirect=["app"]
)
def test_a_fuzzer_finds_the_server_as_its_description_says(
    app: FastAPI, phases: str, served: str, tmp_path: Path
) -> None:
    _, key = KeyBook(app.state.services.journal.database).create("studio", "fuzzer")
    fuzzer = Path(sys.executable).parent / "schemathesis"
    command = [str(fuzzer), "run", f"{served}/openapi.json", "-H", f"Authorization: Bearer {key}", "--checks", "all"]
    options = [
        "--exclude-checks",
        ",".join(LEFT_OUT),
        "--max-examples",
        "8",
        "--phases",
        phases,
        "--seed",
        "1",
        "--no-color",
    ]
    # They last as long as their job, and nobody works here: /sync would answer 504.
    endless = ["--exclude-path-regex", "/(events|stream|sync)$"]
    ran = subprocess.run(
        [*command, *options, *endless], capture_output=True, text=True, timeout=600, check=False, cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stdout
    cases = re.search(r"(\d+) generated", ran.stdout)
    assert cases is not None, ran.stdout
    assert int(cases[1]) > 120
