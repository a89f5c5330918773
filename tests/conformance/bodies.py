"""Requests as clients of other open servers send them, field by field, with values that this preset has.

Written from what those clients put on the wire: vLLM-Omni's curl examples, its benchmark and its ComfyUI node; SGLang's
documentation, its `bench_serving` and its ComfyUI node; OpenRouter's form; the AI SDKs of Vercel and TanStack; MCP
servers made for Sora. Each is sent, polled and downloaded as its client does, and what the client reads must be there.
No code of theirs is here.
"""

import base64
import io
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import PIL.Image

PROMPT = "a fox in a snowy forest at dusk"
SIZE = "256x256"
FRAMES, FPS = "46", "24"
POLL_S, LIMIT_S = 0.1, 120.0


def png() -> bytes:
    """A picture to begin with."""
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (64, 64), "orange").save(buffer, "PNG")
    return buffer.getvalue()


PICTURE_URL = "data:image/png;base64," + base64.b64encode(png()).decode()


@dataclass(frozen=True)
class Asked:
    """One request that makes a video, and what its client does with the answer."""

    client: str
    operation: str
    fields: Mapping[str, Any]
    form: bool = False  # multipart, every value as text
    picture: str = ""  # the field of a form that has a file
    picture_type: str = "image/png"
    path: str = "/v1/videos"
    sync: bool = False  # the answer is the mp4
    reads: tuple[str, ...] = ("id", "status")  # of the finished job
    headers: Mapping[str, str] = field(default_factory=dict)


VLLM_SAMPLING = {"num_inference_steps": "4", "guidance_scale": "4.0", "seed": "42"}
VLLM_FORM = {
    "prompt": PROMPT,
    "width": "256",
    "height": "256",
    "num_frames": FRAMES,
    "negative_prompt": "blurry, static",
    "fps": FPS,
    **VLLM_SAMPLING,
    "guidance_scale_2": "4.0",
    "boundary_ratio": "0.875",
    "flow_shift": "5.0",
}
VLLM_READS = ("id", "status", "file_name", "inference_time_s", "stage_durations")
SGLANG = {
    "prompt": PROMPT,
    "size": SIZE,
    "fps": 24,
    "num_frames": 46,
    "negative_prompt": "blurry",
    "guidance_scale": 3.0,
    "num_inference_steps": 4,
    "seed": 1024,
    "generator_device": "cuda",
}

ASKED: tuple[Asked, ...] = (
    Asked("vLLM-Omni curl", "create", VLLM_FORM, form=True, reads=VLLM_READS, headers={"Accept": "application/json"}),
    Asked("vLLM-Omni curl", "picture", VLLM_FORM, form=True, picture="input_reference", reads=VLLM_READS),
    Asked(
        "vLLM-Omni curl",
        "picture URL",
        {"prompt": PROMPT, "image_reference": json.dumps({"image_url": PICTURE_URL}), "seed": "42"},
        form=True,
    ),
    Asked("vLLM-Omni curl", "sync", VLLM_FORM, form=True, path="/v1/videos/sync", sync=True),
    Asked("vLLM-Omni curl", "sync JSON", {"prompt": PROMPT}, path="/v1/videos/sync", sync=True),
    Asked(
        "vLLM-Omni benchmark",
        "create",
        {"prompt": PROMPT, "height": "256", "width": "256", "num_frames": FRAMES, "fps": FPS, **VLLM_SAMPLING},
        form=True,
        reads=VLLM_READS,
    ),
    Asked(
        "vLLM-Omni benchmark",
        "picture",
        {"prompt": PROMPT, "height": "256", "width": "256", "true_cfg_scale": "4.0", **VLLM_SAMPLING},
        form=True,
        picture="input_reference",
        reads=VLLM_READS,
    ),
    Asked(
        "vLLM-Omni ComfyUI node",
        "create",
        {
            "model": "tiny",
            "prompt": PROMPT,
            "width": "256",
            "height": "256",
            "num_frames": FRAMES,
            "fps": FPS,
            "negative_prompt": "blurry",
            **VLLM_SAMPLING,
            "true_cfg_scale": "4.0",
            "n": "1",
            "extra_params": json.dumps({"flow_shift": 5.0}),
        },
        form=True,
    ),
    Asked(
        "vLLM-Omni ComfyUI node",
        "picture",
        {"model": "tiny", "prompt": PROMPT, "width": "256", "height": "256", "num_frames": FRAMES, "fps": FPS},
        form=True,
        picture="input_reference",
    ),
    Asked("SGLang docs", "create", {**SGLANG, "seconds": 2, "enable_teacache": True, "output_quality": "high"}),
    Asked("SGLang docs", "extra_body", {"prompt": PROMPT, "extra_body": {"num_inference_steps": 4, "seed": 1024}}),
    Asked("SGLang docs", "picture URL", {"prompt": PROMPT, "reference_url": PICTURE_URL, "seed": 1024}),
    Asked(
        "SGLang bench_serving", "create", {"model": "tiny", "prompt": PROMPT, "size": SIZE, "num_frames": 46, "fps": 24}
    ),
    Asked(
        "SGLang bench_serving",
        "picture",
        {
            "model": "tiny",
            "prompt": PROMPT,
            "size": SIZE,
            "extra_body": json.dumps({"num_inference_steps": 4}),
            "num_frames": FRAMES,
            "fps": FPS,
        },
        form=True,
        picture="input_reference",
        picture_type="application/octet-stream",
    ),
    Asked("SGLang ComfyUI node", "create", {**SGLANG, "seconds": 2, "enable_teacache": True}, path="/v1/videos"),
    Asked(
        "OpenRouter",
        "create",
        {"model": "tiny", "prompt": PROMPT, "duration": 2, "resolution": "256p", "aspect_ratio": "1:1", "seed": 42},
    ),
    Asked(
        "OpenRouter",
        "picture URL",
        {
            "model": "tiny",
            "prompt": PROMPT,
            "duration": 2,
            "generate_audio": False,
            "frame_images": [{"type": "image_url", "image_url": {"url": PICTURE_URL}, "frame_type": "first_frame"}],
        },
    ),
    Asked("Vercel AI SDK", "create", {"model": "tiny", "prompt": PROMPT}, path="/v1/videos/", reads=("status", "url")),
    Asked(
        "TanStack AI",
        "create",
        {"model": "tiny", "prompt": PROMPT, "size": SIZE, "seconds": "2"},
        form=True,
        reads=("status", "progress", "url"),
    ),
    Asked("MCP servers for Sora", "create", {"model": "tiny", "prompt": PROMPT, "seconds": "2", "size": SIZE}),
)


def attempts(url: str) -> Iterator[tuple[str, str, Callable[[], None]]]:
    """(client, operation, the act), which raises where that client would fail."""
    for asked in ASKED:
        yield asked.client, asked.operation, lambda asked=asked: perform(url, asked)  # type: ignore[misc]
    for client, operation, path in (
        ("SGLang bench_serving", "health", "/health"),
        ("SGLang ComfyUI node", "models", "/models"),
        ("vLLM-Omni ComfyUI node", "models", "/v1/models"),
    ):
        yield client, operation, lambda path=path: probe(url, path)  # type: ignore[misc]
    yield "MCP servers for Sora", "remix", lambda: remix(url)
    yield "curl", "create", lambda: forgotten_header(url)


def perform(url: str, asked: Asked) -> None:
    """Send it, wait, download."""
    with httpx.Client(base_url=url, timeout=LIMIT_S) as http:
        answer = http.post(asked.path, headers=dict(asked.headers), **_sent(asked))
        assert answer.status_code in (200, 201, 202), f"{answer.status_code}: {answer.text}"
        if asked.sync:
            assert answer.headers["content-type"] == "video/mp4", answer.headers["content-type"]
            told = set(answer.headers)  # Ray Serve gives every answer an X-Request-Id; the application alone does not
            assert {"x-video-id", "x-model", "x-inference-time-s"} <= told, dict(answer.headers)
            is_mp4(answer.content)
            return
        made = answer.json()
        assert made["id"], made
        assert made["status"] in ("queued", "in_progress", "completed"), made
        done = finished(http, made["id"])
        missing = [name for name in asked.reads if done.get(name) is None]
        assert not missing, f"{missing} missing in {sorted(done)}"
        if "url" in asked.reads:
            is_mp4(httpx.get(done["url"]).raise_for_status().content)
        is_mp4(http.get(f"/v1/videos/{made['id']}/content").raise_for_status().content)


def finished(http: httpx.Client, video_id: str) -> dict[str, Any]:
    """The completed job, polled as all of them do: as long as it is neither completed nor failed."""
    end = time.monotonic() + LIMIT_S
    while True:
        found: dict[str, Any] = http.get(f"/v1/videos/{video_id}").raise_for_status().json()
        if found["status"] == "completed":
            return found
        assert found["status"] != "failed", found["error"]
        assert time.monotonic() < end, f"after {LIMIT_S:g} s it is {found['status']}"
        time.sleep(POLL_S)


def probe(url: str, path: str) -> None:
    """What a client asks before it sends anything."""
    answer = httpx.get(url + path).raise_for_status()
    if path.endswith("models"):
        assert "tiny" in [one["id"] for one in answer.json()["data"]], answer.text


def remix(url: str) -> None:
    """By the id of another video in the body of a new one."""
    with httpx.Client(base_url=url, timeout=LIMIT_S) as http:
        parent = http.post("/v1/videos", json={"prompt": PROMPT}).raise_for_status().json()["id"]
        finished(http, parent)
        asked = {"model": "tiny", "prompt": "a red fox", "remixed_from_video_id": parent}
        child = http.post("/v1/videos", json=asked)
        assert child.status_code == 200, child.text
        assert finished(http, child.json()["id"])["remixed_from_video_id"] == parent


def forgotten_header(url: str) -> None:
    """JSON under the header that curl sends by itself: a sentence that says so."""
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = httpx.post(f"{url}/v1/videos", content=json.dumps({"prompt": PROMPT}), headers=headers)
    if answer.status_code != 200:
        assert answer.status_code == 400, answer.text
        assert "application/json" in answer.json()["error"]["message"], answer.text


def is_mp4(data: bytes) -> None:
    assert data[4:8] == b"ftyp", data[:40]


def _sent(asked: Asked) -> dict[str, Any]:
    if not asked.form:
        return {"json": dict(asked.fields)}
    parts: dict[str, Any] = {name: (None, value) for name, value in asked.fields.items()}
    if asked.picture:
        parts[asked.picture] = ("first.png", png(), asked.picture_type)
    return {"files": parts}
