"""What a refusal says in a shell: the options' names for the API's fields, commands for its requests."""

from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from client.cli import app
from client.commands.wording import OPTIONS, in_words
from tests.client.shell import Shell
from tests.client.standin import keyframe
from tests.client.wire import Wire


def test_every_option_of_the_mapping_is_one() -> None:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    known = {name for command in group.commands.values() for parameter in command.params for name in parameter.opts}
    assert set(OPTIONS.values()) - {"FILE"} <= known


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--pause-after vfi --until vfi", "Invalid value for '--pause-after'"),
        ("--pause-after v2v --until i2v", "--pause-after is 'v2v', but this job runs from t2i to i2v;"),
        ("--candidates 3", "--candidates is 3, but the job does not pause to choose one; add --pause-after t2i, and"),
        ("--steps 0", "--steps is 0; it must be between 1 and"),
        ("--guidance 99", "--guidance is 99; it must be between 1 and 30."),
        ("--factor 9", "--factor is 9; it must be between 2 and 8."),
        ("--seed -1", "--seed is -1; it must be between 0 and"),
        ("--deadline inf", "--deadline is inf; it must be a finite number."),
        ("--image absent.png", "--image: there is no file 'absent.png'; check the path."),
        ("--image fox.mp4", "is a video (video/mp4); use `magicvideo upscale` or `magicvideo interpolate`."),
        ("--seconds 77", "'77' seconds is not allowed with preset 'tiny'"),
        ("--image fox.png --until t2i", "--until is 't2i', but this job begins at i2v; name that or a later stage."),
    ],
)
def test_a_refusal_names_the_option(shell: Shell, wire: Wire, words: str, sentence: str) -> None:
    Path("fox.png").write_bytes(keyframe(1))
    Path("fox.mp4").write_bytes(wire.payload)
    assert shell("generate", "a fox", *words.split()) == 2
    assert sentence in shell.err
    assert not wire.jobs


def test_a_key_is_given_by_its_option(shell: Shell, wire: Wire) -> None:
    key = wire.lock()
    try:
        assert shell("list") == 2
        assert shell.err == ("Error: This server needs an API key; give it with --api-key or in MAGICVIDEO_API_KEY.\n")
        assert shell("list", "--api-key", key) == 0
    finally:
        wire.unlock()


def test_requests_are_named_as_commands(shell: Shell, wire: Wire) -> None:
    known = wire.finished()
    assert shell("show", "video_9999") == 2
    assert shell.err == "Error: No video has the id 'video_9999'; `magicvideo list` shows those there are.\n"
    assert shell("cancel", known) == 2
    assert shell.err.endswith("only an unfinished one can be cancelled. `magicvideo delete` removes it.\n")
    assert shell("remix", known) == 2
    assert "or the stage to begin at in --from." in shell.err
    assert shell("continue", known) == 2
    assert "only a job with --pause-after waits to be continued." in shell.err


def test_a_document_keeps_the_words_of_the_wire(shell: Shell) -> None:
    assert shell("generate", "a fox", "--candidates", "3", "--json", "-q") == 2
    assert "add pause_after=t2i" in shell.document["error"]["message"]
    assert shell.document["error"]["param"] == "candidates"


@pytest.mark.parametrize(
    "sentence",
    [
        "The prompt is empty; say in a few words what the video shows.",
        "Size '3x3' is not allowed with preset 'tiny'; choose one of: 256x256.",
        "No video has the id 'input_video'.",
        "This model reads only the first 30 words.",
    ],
)
def test_plain_words_stay(sentence: str) -> None:
    assert in_words(sentence) == sentence


def test_a_load_that_sends_nothing_is_no_success(shell: Shell, wire: Wire) -> None:
    assert shell("load", "--rate", "0.001", "--duration", "1", "--json") == 2
    assert shell.document["error"]["message"].startswith("Nothing is sent: --rate 0.001 for --duration 1 draws no")
    assert not wire.seen
