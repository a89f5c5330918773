"""How a command ends: its exit code, one sentence on stderr, and with `--json` one document on stdout.

Takes what went wrong, gives text and codes. Imports what it needs when it needs it: a command starts light.
"""

import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from .._shell import ending
from .._shell.terminal import tell
from .options import Asking, Server
from .wording import in_words

if TYPE_CHECKING:
    from pydantic import BaseModel

    from .._core.client import Client

ModelT = TypeVar("ModelT", bound="BaseModel")

FAILED, REFUSED, UNREACHABLE = ending.FAILED, ending.WRONG, ending.OUTSIDE
INTERRUPTED, UNREAD = ending.INTERRUPTED, ending.UNREAD
_debug = [False]
EXIT_CODES = (
    "Exit codes: 0 done; 1 the job failed; 2 wrong usage, a refused request or an output that cannot be written; "
    "3 no server, or the network, the server or this machine broke; 130 stopped by Ctrl-C, the job goes on unless you "
    "cancel it; 141 nobody reads the output any more."
)


def connect(server: Server) -> "Client":
    """The client of a command."""
    from .._core.client import Client

    return Client(server.url, server.api_key)


def ask(asking: Asking, question: "Callable[[Client], ModelT]", show: "Callable[[ModelT], object]") -> "ModelT":
    """What the server answers, printed: as JSON where that is asked for, else as `show` does."""
    with reporting(asking.as_json):
        with connect(asking) as client:
            found = question(client)
        if asking.as_json:
            print_json(found.model_dump(mode="json"))
        else:
            show(found)
    return found


def print_json(document: dict[str, Any]) -> None:
    """The one document on stdout."""
    typer.echo(json.dumps(document, indent=2, allow_nan=False))


@contextmanager
def reporting(as_json: bool, interrupted: Callable[[], str] = lambda: "Stopped.") -> Iterator[None]:
    """Turn what went wrong into one sentence on stderr, a JSON document where asked for, and the exit code."""
    from ..errors import MagicVideoError, VideoFailedError

    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        typer.echo(interrupted(), err=True)
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        ending.hush()
        raise typer.Exit(UNREAD) from None
    except VideoFailedError as error:
        _say(f"Error: {error}")
        if as_json:
            print_json(error.video.model_dump(mode="json"))
        raise typer.Exit(FAILED) from None
    except MagicVideoError as error:
        _say(f"Error: {in_words(str(error))}")
        if as_json:
            print_json(_error_document(error))
        raise typer.Exit(_exit_code(error)) from None
    except typer.Exit:
        raise
    except Exception as error:
        _say(ending.unforeseen(error))
        if as_json:
            print_json(_error_document(error))
        raise typer.Exit(UNREACHABLE) from None


def show_tracebacks(wanted: bool) -> None:
    """Whether errors show where they came from (`--debug`)."""
    _debug[0] = wanted


def _say(sentence: str) -> None:
    if _debug[0]:
        traceback.print_exc()
    tell(sentence, err=True)


def _exit_code(error: Exception) -> int:
    from ..errors import APIConnectionError, ServerError, UnexpectedResponseError

    return UNREACHABLE if isinstance(error, APIConnectionError | ServerError | UnexpectedResponseError) else REFUSED


def _error_document(error: Exception) -> dict[str, Any]:
    """The error in the shape of the wire, so that scripts read one shape."""
    from ..errors import APIStatusError
    from ..schema import ErrorBody, ErrorDetail

    if isinstance(error, APIStatusError):
        detail = ErrorDetail(message=str(error), type=error.type, param=error.param, code=error.code)
    else:
        detail = ErrorDetail(message=str(error), type="client_error", code=type(error).__name__)
    return ErrorBody(error=detail).model_dump(mode="json")
