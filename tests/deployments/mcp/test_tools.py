"""The tools for assistants, asked by the package's own client: in this process, and over stdin and stdout."""

import base64
import io
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import PIL.Image
import pytest
from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult, ImageContent, ResourceLink, TextContent

from client import AsyncClient
from deployments.__main__ import main
from deployments.mcp.tools import make_server
from stages.local.mp4 import write_mp4
from stages.types import Clip
from tests.deployments.api.served import Served
from tests.deployments.rig import Rig

TOOLS = {"generate", "status", "result", "remix", "cancel"}


def mp4(folder: Path) -> bytes:
    write_mp4(folder / "grey.mp4", [Clip(np.full((4, 32, 64, 3), 120, np.uint8), 24.0)])
    return (folder / "grey.mp4").read_bytes()


@asynccontextmanager
async def assisting(rig: Rig) -> AsyncIterator[Client]:
    client = AsyncClient("http://localhost", "", transport=httpx.ASGITransport(rig.app), max_retries=0)
    async with client, Client(make_server(client)) as connected:
        yield connected


async def job(assistant: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    answer = await assistant.call_tool(tool, arguments)
    assert not answer.is_error, answer.content
    made: dict[str, Any] | None = answer.structured_content
    assert made is not None
    return made


async def error(assistant: Client, tool: str, **arguments: Any) -> str:
    answer = await assistant.call_tool(tool, arguments)
    assert answer.is_error
    [said] = answer.content
    assert isinstance(said, TextContent)
    return said.text


def shown(answer: CallToolResult) -> tuple[ResourceLink, PIL.Image.Image]:
    link, picture = answer.content
    assert isinstance(link, ResourceLink)
    assert isinstance(picture, ImageContent)
    return link, PIL.Image.open(io.BytesIO(base64.b64decode(picture.data)))


async def test_there_are_five_tools_that_say_what_they_take(rig: Rig) -> None:
    async with assisting(rig) as assistant:
        tools = {tool.name: tool for tool in (await assistant.list_tools()).tools}
    assert set(tools) == TOOLS
    for tool in tools.values():
        assert tool.description
        assert all("description" in field for field in tool.input_schema["properties"].values())
    assert tools["generate"].input_schema["required"] == ["prompt"]
    read_only = {name for name, tool in tools.items() if tool.annotations and tool.annotations.read_only_hint}
    assert read_only == {"status", "result"}


async def test_a_video_from_prompt_to_link_and_picture(rig: Rig, tmp_path: Path) -> None:
    async with assisting(rig) as assistant:
        made = await job(assistant, "generate", prompt="a fox", seed=3, until="i2v")
        assert (made["status"], made["seed"], made["prompt"]) == ("queued", 3, "a fox")
        assert f"{made['id']} is queued at 0 %; call status again" in made["next"]
        early = await error(assistant, "result", id=made["id"])
        assert f"Video {made['id']} is queued at 0 %" in early
        rig.finish(mp4(tmp_path))
        assert (await job(assistant, "status", id=made["id"]))["next"].endswith("is completed; call result.")
        link, picture = shown(await assistant.call_tool("result", {"id": made["id"]}))
        address, _, signature = link.uri.partition("?expires=")
        assert (link.mime_type, address) == ("video/mp4", f"http://localhost/v1/videos/{made['id']}/content")
        assert "signature=" in signature  # a browser needs no key
        assert (picture.format, picture.size) == ("WEBP", (64, 32))


async def test_a_remix_and_a_cancel(rig: Rig, tmp_path: Path) -> None:
    async with assisting(rig) as assistant:
        made = await job(assistant, "generate", prompt="a fox")
        rig.finish(mp4(tmp_path))
        child = await job(assistant, "remix", id=made["id"], prompt="a red fox")
        assert (child["status"], child["prompt"]) == ("queued", "a red fox")
        stopped = await job(assistant, "cancel", id=child["id"])
        assert (stopped["status"], stopped["error"]) == ("failed", "The job was cancelled.")
        assert "has failed and will have no result: The job was cancelled." in await error(
            assistant, "result", id=child["id"]
        )


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("generate", {"prompt": " "}, ("The prompt is empty",)),
        ("generate", {"prompt": "a fox", "steps": 900}, ("900", "between 1 and 150")),
        ("generate", {"prompt": "a fox", "size": "9x9"}, ("9x9", "256x256")),
        ("status", {"id": "video_no"}, ("No video has the id 'video_no'",)),
        ("remix", {"id": "video_no", "prompt": "a cat"}, ("No video has the id 'video_no'",)),
        ("cancel", {"id": "video_no"}, ("No video has the id 'video_no'",)),
    ],
)
async def test_errors_are_the_servers_sentences(
    rig: Rig, tool: str, arguments: dict[str, Any], words: tuple[str, ...]
) -> None:
    async with assisting(rig) as assistant:
        said = await error(assistant, tool, **arguments)
        assert all(word in said for word in words), said
        assert "\n" not in said


async def test_a_server_that_is_not_there_is_named() -> None:
    async with AsyncClient("http://127.0.0.1:9", "", max_retries=0) as client, Client(make_server(client)) as assistant:
        assert "http://127.0.0.1:9" in await error(assistant, "generate", prompt="a fox")


def test_an_address_that_is_none_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mcp", "--url", "ftp://here"]) == 2
    said = capsys.readouterr()
    assert (said.out, "ftp://here" in said.err) == ("", True)


@pytest.mark.slow
async def test_a_host_starts_it_as_a_command(served: Served, tmp_path: Path) -> None:
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "deployments", "mcp"],
        env={"MAGICVIDEO_URL": served.url},
        cwd=os.getcwd(),
    )
    async with Client(command) as assistant:
        assert {tool.name for tool in (await assistant.list_tools()).tools} == TOOLS
        made = await job(assistant, "generate", prompt="a fox")
        assert served.journal.get(made["id"]).request.prompt == "a fox"
