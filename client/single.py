"""What a request may say of single stages: steps and guidance, before what it says of all. Part of the wire contract.

Imports pydantic and nothing of the project.
"""

import json
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,18})(?:\.\d{1,18})?")


def _counted(value: Any) -> Any:
    """A form says a number as its text."""
    return json.loads(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


class StageSettings(BaseModel):
    """Of one stage alone, before what is said of all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: Annotated[int | None, BeforeValidator(_counted)] = Field(
        default=None, description="Length of its denoising schedule."
    )
    guidance: Annotated[float | None, BeforeValidator(_counted)] = Field(
        default=None, description="Its classifier-free guidance scale."
    )


def _parsed(value: Any) -> Any:
    """A form and a command line say an object as its JSON."""
    return json.loads(value) if isinstance(value, str) and value.lstrip().startswith("{") else value


class SingleStages(BaseModel):
    """What is said of single stages."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    t2i: StageSettings | None = None
    i2v: StageSettings | None = None
    v2v: StageSettings | None = None

    @property
    def given(self) -> dict[Literal["t2i", "i2v", "v2v", "vfi"], StageSettings]:
        """Of those alone of which something is said."""
        named: dict[Literal["t2i", "i2v", "v2v", "vfi"], StageSettings | None]
        named = {"t2i": self.t2i, "i2v": self.i2v, "v2v": self.v2v}
        return {name: own for name, own in named.items() if own is not None}


Stages = Annotated[SingleStages | None, BeforeValidator(_parsed)]
