"""The `openai` package against a server: `python openai_python.py URL PICTURE [OPERATION LEFT OUT]...`.

Left out are verbs that a version lacks, and what none of them can send: an id or an address in the place of a file.
"""

import io
import sys
import warnings
from pathlib import Path
from typing import Any

from openai import OpenAI
from report import attempt, check

warnings.simplefilter("ignore")  # the hosted service is gone, and the package says so at every call
PROMPT = "a fox in a snowy forest at dusk"
PICTURE = Path(sys.argv[2]).read_bytes()
LEFT_OUT = sys.argv[3:]
client = OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="none", max_retries=0, timeout=120)
videos: Any = client.videos


def finished(**asked: Any) -> Any:
    video = videos.create_and_poll(prompt=PROMPT, **asked)
    check(video.status == "completed", video)
    return video


def polled(video: Any) -> Any:
    done = videos.poll(video.id)
    check(done.status == "completed", done)
    return done


def downloaded(video: Any, **asked: Any) -> bytes:
    data: bytes = videos.download_content(video.id, **asked).read()
    check(len(data) > 40, data)
    return data


def tried(operation: str, act: Any) -> Any:
    return None if operation in LEFT_OUT else attempt(operation, act)


def main() -> None:
    video = tried("create", lambda: finished(model="tiny", seconds="2", size="256x256"))
    tried("picture", lambda: finished(model="tiny", input_reference=("first.png", io.BytesIO(PICTURE), "image/png")))
    tried("retrieve", lambda: videos.retrieve(video.id).prompt)
    tried("list", lambda: check(video.id in [one.id for one in videos.list(limit=50)], "not listed"))
    tried("download", lambda: check(downloaded(video)[4:8] == b"ftyp", "no mp4"))
    tried("thumbnail", lambda: downloaded(video, variant="thumbnail"))
    tried("spritesheet", lambda: downloaded(video, variant="spritesheet"))
    tried("remix", lambda: polled(videos.remix(video.id, prompt="a red fox")))
    if hasattr(videos, "edit"):
        file = ("video.mp4", io.BytesIO(downloaded(video)), "video/mp4")
        tried("edit", lambda: polled(videos.edit(prompt="a blue fox", video=file)))
    tried("models", lambda: check("tiny" in [one.id for one in client.models.list()], "not listed"))
    tried("model", lambda: client.models.retrieve("tiny").id)
    tried("delete", lambda: check(videos.delete(video.id).deleted, "not deleted"))


main()
