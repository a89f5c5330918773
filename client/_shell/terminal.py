"""Text of strangers on a terminal: a prompt or a file name is never markup, and never steers the terminal."""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def plain(text: str) -> str:
    """In one line and without control signs."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def tell(text: str, *, err: bool = False) -> None:
    """One line of output; a pipe gets it as it is, a terminal `plain`."""
    stream = sys.stderr if err else sys.stdout
    print(plain(text) if stream.isatty() else text, file=stream, flush=True)


def make_console(*, stderr: bool = False, width: int | None = None) -> "Console":
    """A console of rich that takes strings as they are: no markup, no emoji codes, no control signs."""
    from rich.console import Console
    from rich.text import Text

    class Clean(Console):
        def render_str(self, text: str, *args: Any, **options: Any) -> Text:
            return super().render_str("\n".join(map(plain, text.split("\n"))), *args, **options)

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # as of everything else that is printed; rich would end the program with 1

    return Clean(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)
