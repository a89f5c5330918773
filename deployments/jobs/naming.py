"""What is wrong with a request, in the words that the request used: `num_inference_steps` where `steps` was judged.

Whoever judges a field knows it by our name; `deployments.jobs.dialect` knows what the request called it. Pure.
"""

import re

from deployments.errors import ApiError
from deployments.jobs.dialect import Understood


def as_sent(error: ApiError, said: Understood) -> None:
    """Have an error about fields of ours name them as the request does, in its message and as its `param`.

    A value of ours that was made of another one of the request's stays as it is, and the message says of what.
    """
    ours = error.param or ""
    theirs = said.called.get(ours, ours)
    if ours in said.made:
        error.message = f"{error.message.rstrip('.')} ({ours} is what {theirs} makes of it)."
    for name, called in said.called.items():
        if name not in said.made:
            error.message = _renamed(error.message, name, called)
    error.param = theirs or None


def _renamed(message: str, name: str, called: str) -> str:
    """Where it stands as a field: "steps" is also an English word."""
    as_field = r"\b" if "_" in name else r"(?= (?:is|has|changes)\b)"
    return re.sub(rf"(?<![\w.'\"]){re.escape(name)}{as_field}", lambda _: called, message)
