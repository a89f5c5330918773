"""LiteLLM's package against a server: `python litellm_sdk.py URL PICTURE`. Verbs that it has not are left out."""

import io
import sys
import time
from pathlib import Path
from typing import Any

import litellm
from report import attempt, check

PROMPT = "a fox in a snowy forest at dusk"
PICTURE = Path(sys.argv[2]).read_bytes()
HERE: Any = {"api_base": f"{sys.argv[1]}/v1", "api_key": "none", "custom_llm_provider": "openai"}
TO_MODEL = {"model": "openai/tiny", "api_base": HERE["api_base"], "api_key": "none"}


def finished(video: Any) -> Any:
    end = time.monotonic() + 120
    while video.status != "completed":
        check(video.status in ("queued", "in_progress"), video)
        check(time.monotonic() < end, video)
        time.sleep(0.1)
        video = litellm.video_status(video_id=video.id, **HERE)
    return video


def picture() -> io.BytesIO:
    file = io.BytesIO(PICTURE)
    file.name = "first.png"
    return file


def main() -> None:
    module: Any = litellm
    made = attempt("create", lambda: finished(litellm.video_generation(prompt=PROMPT, seconds="2", **TO_MODEL)))
    video: Any = made
    attempt("picture", lambda: finished(litellm.video_generation(prompt=PROMPT, input_reference=picture(), **TO_MODEL)))
    attempt("retrieve", lambda: litellm.video_status(video_id=video.id, **HERE).status)
    attempt("list", lambda: litellm.video_list(**HERE))
    attempt("download", lambda: check(litellm.video_content(video_id=video.id, **HERE)[4:8] == b"ftyp", "no mp4"))
    attempt("remix", lambda: finished(litellm.video_remix(video_id=video.id, prompt="a red fox", **HERE)))
    if hasattr(module, "video_edit"):
        attempt("edit", lambda: finished(module.video_edit(video_id=video.id, prompt="a red fox", **HERE)))
    if hasattr(module, "video_extension"):
        attempt(
            "extend",
            lambda: finished(module.video_extension(video_id=video.id, prompt="it runs away", seconds="2", **HERE)),
        )


main()
