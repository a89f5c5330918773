"""Text files as editors of every system write them."""

import codecs
from pathlib import Path

import pytest

from client._shell.terminal import make_console, plain
from client._shell.texts import is_hidden, read_lines, read_text

TEXT = "ein Fuchs, 狐\na line\u2028of two\n"


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.encode("utf-16"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
    ],
)
def test_a_text_is_the_same_however_it_was_saved(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    assert read_text(tmp_path / "a.txt", ValueError) == TEXT
    assert read_lines(tmp_path / "a.txt", ValueError) == [(1, "ein Fuchs, 狐"), (2, "a line\u2028of two")]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("Füchse".encode("latin-1"), r"a\.txt is not UTF-8 \(invalid .* at byte 1\); save it as UTF-8"),
        ("fox".encode("utf-16-le"), r"a\.txt holds zero bytes"),
        (codecs.BOM_UTF16_LE + b"x", r"a\.txt is not UTF-16"),
        (None, r"a\.txt cannot be read \(No such file"),
    ],
)
def test_what_is_no_text_is_named(tmp_path: Path, data: bytes | None, sentence: str) -> None:
    if data is not None:
        (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(LookupError, match=sentence):
        read_text(tmp_path / "a.txt", LookupError)


def test_what_a_mac_leaves_is_hidden(tmp_path: Path) -> None:
    below = tmp_path / ".home"
    names = ("._a.txt", ".DS_Store", "__MACOSX/._a.mp4", ".cache/a.mp4", "a.mp4", "b/a.txt")
    assert [is_hidden(below / name, below) for name in names] == [True, True, True, True, False, False]


def test_text_of_a_user_is_neither_markup_nor_control(capsys: pytest.CaptureFixture[str]) -> None:
    said = "[/x] [red]a walk [x].mp4 :fox: \x1b[31m\x07\u202e"
    make_console(width=200).print(said)
    shown = capsys.readouterr().out
    assert shown == plain(said) + "\n"
    assert "[/x] [red]a walk [x].mp4 :fox:" in shown
    assert "\x1b" not in shown
