"""Values that nobody is to see, by reference: `env:NAME` or `file:/path` where a configuration names them.

What stands in Serve's config is shown on Ray's dashboard, so a reference is read only in the process that needs the
value, on its node. `shown` is what a message may say of a value that is refused.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from client._shell.texts import read_text
from deployments.errors import ConfigError

_REFERENCE = re.compile(r"(env|file):((?<=env:)\w+|(?<=file:)/(?!/).+)")
_SECRET_FIELD = re.compile(r"secret|password|token|key|url", re.IGNORECASE)
HOW = "env:NAME or file:/path"
OTLP_KEY = "send it as a header, by OTEL_EXPORTER_OTLP_HEADERS=authorization=..."


def is_reference(text: str) -> bool:
    return _REFERENCE.fullmatch(text) is not None


def resolved(text: str, field: str) -> str:
    """The value that a reference names; any other text is the value.

    Raises:
        ConfigError: there is none here.
    """
    found = _REFERENCE.fullmatch(text)
    if found is None:
        return text
    kind, name = found.groups()
    try:
        value = os.environ.get(name, "") if kind == "env" else read_text(Path(name), ConfigError)
    except ConfigError as error:
        raise ConfigError(f"{field} is {text}, which cannot be read on this node: {error}") from None
    if not (value := value.strip()):  # a secret made of a file ends with its line
        lack = "this node's environment lacks" if kind == "env" else "is empty"
        raise ConfigError(f"{field} is {text}, which {lack}; set it for every replica of ingress and pipeline.")
    return value


def holds_password(url: str) -> bool:
    """Whether an address carries a password; one that cannot be read may."""
    try:
        parts = urlsplit(url)
        return bool(parts.password) or "password" in parse_qs(parts.query)
    except ValueError:
        return True


def without_password(url: str, how: str) -> str:
    """The address, if it carries no password; `how` says where that belongs.

    Raises:
        ValueError: it carries one.
    """
    if holds_password(url):
        raise ValueError(f"it holds a password, which Ray's dashboard would show; {how}")
    return url


def shown(finding: Mapping[str, Any]) -> str:
    """What came, behind a finding of pydantic: nothing where it is a secret, or may be one in the wrong place."""
    value, field = finding["input"], str(finding["loc"][-1]) if finding["loc"] else ""
    plain = value is None or isinstance(value, str | int | float)
    hides = finding["type"] == "extra_forbidden" or not plain or _SECRET_FIELD.search(field) or "://" in str(value)
    return "" if hides else f" (got {value!r})"
