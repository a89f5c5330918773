"""What FastAPI finds out about a route, found once: tests make the application a thousand times, of the same functions.

Each time it reads every signature and builds a validator of every parameter and answer, most of the 26 ms of CPU that
an application takes. Imported for what it does, by what makes applications.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from typing import Any

import fastapi.dependencies.utils
import fastapi.routing
import fastapi.utils
from fastapi.dependencies.models import Dependant

_find = fastapi.dependencies.utils.get_dependant
_found: dict[Any, Dependant] = {}
_LISTS = [field.name for field in fields(Dependant) if field.default_factory is list]


def _get_dependant(*, path: str, call: Callable[..., Any], **about: Any) -> Dependant:
    """As FastAPI's, for this function: another one of the same code asks for the same."""
    key = (path, getattr(call, "__code__", call), repr(sorted(about.items())))
    if key not in _found:
        _found[key] = _find(path=path, call=call, **about)
    known = _found[key]
    own: dict[str, Any] = {name: [*getattr(known, name)] for name in _LISTS}
    return replace(known, call=call, **own)


_dependencies: Any = fastapi.dependencies.utils
_routing: Any = fastapi.routing
_dependencies.get_dependant = _routing.get_dependant = _get_dependant
_routing.create_model_field = cache(fastapi.utils.create_model_field)  # of an answer
