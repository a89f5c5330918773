"""Text files of a user: prompts, captions, manifests, JSON lines, tables, YAML. Knows nothing of what stands in them.

UTF-8 with or without a byte order mark, or UTF-16 and UTF-32 with one. Lines end at LF, CRLF or CR, and nowhere else:
`str.splitlines` would also cut a caption at U+2028.
"""

import codecs
from pathlib import Path

_MARKS = (  # the longer ones first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path, refusal: type[Exception]) -> str:
    """The text, whose lines end at LF.

    Raises:
        refusal: one sentence that names the file, because it cannot be read or is no text.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise refusal(f"{path} cannot be read ({error.strerror or error}); give a text file.") from error
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise refusal(
            f"{path} is not {encoding.upper().removesuffix('-SIG')} ({error.reason} at byte {error.start}); save it as "
            "UTF-8."
        ) from error
    if "\0" in text:
        raise refusal(f"{path} holds zero bytes, as UTF-16 without its mark or no text does; save it as UTF-8.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: Path, refusal: type[Exception]) -> list[tuple[int, str]]:
    """Every line that is not blank, with its number, counted from 1.

    Raises:
        refusal: as `read_text`.
    """
    lines = read_text(path, refusal).split("\n")
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def is_hidden(path: Path, below: Path) -> bool:
    """Whether a file found below a folder is not the user's own: `._a.txt` and `.DS_Store` come with every Mac."""
    return any(part.startswith(".") for part in path.relative_to(below).parts)
