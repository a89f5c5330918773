"""The Python client of MagicVideo-V2 on Ray: text to video from a running server.

    from magicvideo_client import Client

    with Client() as client:
        video = client.videos.create_and_wait("a fox in a snowy forest at dusk", seed=7)
        client.videos.download(video.id, "fox.mp4")

`Client` and `AsyncClient` have the same verbs; results are the frozen models of `schema`; every error is a
`MagicVideoError` (the tree stands in `errors`). Names are imported when they are first used: the server imports
`schema` alone and the command line starts at once, neither pays for httpx.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from ._core.async_client import AsyncClient
    from ._core.client import Client
    from ._core.job_options import CreateOptions, ExtendOptions, InterpolateOptions, RemixOptions, UpscaleOptions
    from ._many.load import Shot, send_openly
    from .errors import (
        APIConnectionError,
        APIStatusError,
        APITimeoutError,
        AuthenticationError,
        BadRequestError,
        ConflictError,
        InvalidArgumentError,
        MagicVideoError,
        NotFoundError,
        OutputError,
        RateLimitError,
        ServerError,
        UnexpectedResponseError,
        VideoFailedError,
        WaitTimeoutError,
    )
    from .schema import DeletedVideo, Event, Health, JobError, Pools, PoolState, Reference, StageState, Video, VideoList

__all__ = [
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "AsyncClient",
    "AuthenticationError",
    "BadRequestError",
    "Client",
    "ConflictError",
    "CreateOptions",
    "DeletedVideo",
    "Event",
    "ExtendOptions",
    "Health",
    "InterpolateOptions",
    "InvalidArgumentError",
    "JobError",
    "MagicVideoError",
    "NotFoundError",
    "OutputError",
    "PoolState",
    "Pools",
    "RateLimitError",
    "Reference",
    "RemixOptions",
    "ServerError",
    "Shot",
    "StageState",
    "UnexpectedResponseError",
    "UpscaleOptions",
    "Video",
    "VideoFailedError",
    "VideoList",
    "WaitTimeoutError",
    "__version__",
    "send_openly",
]

_HOMES = {
    "AsyncClient": "._core.async_client",
    "Client": "._core.client",
    **dict.fromkeys(("Shot", "send_openly"), "._many.load"),
    **dict.fromkeys(
        ("CreateOptions", "ExtendOptions", "InterpolateOptions", "RemixOptions", "UpscaleOptions"), "._core.job_options"
    ),
    **dict.fromkeys(("DeletedVideo", "Event", "Health", "JobError", "PoolState", "Pools", "Reference"), ".schema"),
    **dict.fromkeys(("StageState", "Video", "VideoList"), ".schema"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, ".errors"), __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
