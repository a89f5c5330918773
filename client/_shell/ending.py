"""How a command ends: its exit code, and one sentence on stderr instead of a traceback.

    0    done
    1    what was asked for failed
    2    wrong: an argument, a file that was given, a place that cannot be written
    3    trouble from outside: the disk, the network, the machine, weights that are not there
    130  stopped by Ctrl-C
    141  nobody reads the output any more (`| head`)

`--debug` shows the traceback, too. Knows nothing of what a command does.
"""

import argparse
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from ..errors import OutputError
from .terminal import plain

__all__ = ["FAILED", "INTERRUPTED", "OUTSIDE", "UNREAD", "WRONG", "Parser", "end", "hush", "take_debug", "unforeseen"]
__all__ += ["open_streams", "unwinding"]

FAILED, WRONG, OUTSIDE, INTERRUPTED, UNREAD = 1, 2, 3, 130, 141
DEBUG = "--debug"


class Parser(argparse.ArgumentParser):
    """argparse's, with `--debug` in the help and nothing of a user that steers the terminal in its messages."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.add_argument(DEBUG, action="store_true", help="after an error, also show where it came from")

    def error(self, message: str) -> NoReturn:
        super().error(plain(message))


def take_debug(words: Sequence[str]) -> tuple[list[str], bool]:
    """The words without `--debug`, wherever it stands before `--`, and whether it was there."""
    rest = list(words)
    end_of_options = rest.index("--") if "--" in rest else len(rest)
    kept = [word for number, word in enumerate(rest) if word != DEBUG or number > end_of_options]
    return kept, len(kept) < len(rest)


def end(
    command: Callable[[list[str]], int],
    words: Sequence[str] | None = None,
    *,
    codes: Mapping[type[BaseException], int] | None = None,
    stopped: str = "Interrupted.",
) -> int:
    """The exit code of `command(words)`; `codes` says which of its own errors are whose fault, in the order to try."""
    open_streams()
    given, debug = take_debug(sys.argv[1:] if words is None else words)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a prompt in a script that the terminal cannot show is no crash
    try:
        code = command(given)
        sys.stdout.flush()
    except KeyboardInterrupt:
        _say(stopped, debug)
        return INTERRUPTED
    except BrokenPipeError:
        hush()
        return UNREAD
    except Exception as error:
        kinds = {**(codes or {}), OutputError: WRONG}
        known = next((code for kind, code in kinds.items() if isinstance(error, kind)), None)
        _say(f"Error: {error}" if known is not None else unforeseen(error), debug)
        return OUTSIDE if known is None else known
    return code


@contextmanager
def unwinding() -> Iterator[None]:
    """Within it SIGTERM and SIGHUP leave as Ctrl-C does, so that what is half made is removed. Other handlers stay."""

    def leave(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    main = threading.current_thread() is threading.main_thread()
    told = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    for number in told if main else ():
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in told if main else ():
            signal.signal(number, signal.SIG_DFL)


def open_streams() -> None:
    """Where the shell has closed stdout or stderr (`>&-`), what is said there goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process


def hush() -> None:
    """Nobody reads stdout: what is still to be written, at the exit too, goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def unforeseen(error: BaseException) -> str:
    """One sentence for an error that nobody gave one."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"Error: {where}{error.strerror}."
    said = " ".join(str(error).split()) or "no reason given"
    return f"Error: {type(error).__name__}: {said[:300]}; {DEBUG} shows where."


def _say(sentence: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print(plain(sentence), file=sys.stderr, flush=True)
