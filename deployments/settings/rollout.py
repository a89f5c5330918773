"""What of the arguments a running ingress or pipeline takes over (`live`), and what one is built of (`built_of`).

A roll-out restarts what it is built of, and nothing else: all else travels as Serve's `user_config`. That is shown on
Ray's dashboard, so nothing that may hold a password does.
"""

from collections.abc import Mapping
from typing import Any

from deployments.settings.application import AppArgs

_BUILT: dict[str, Any] = {
    "preset": True,
    "storage": True,
    "webhooks": True,
    "observability": {"otlp_url": True, "service": True},
}


def built_of(args: AppArgs) -> dict[str, Any]:
    """What an ingress and a pipeline are restarted for."""
    return args.model_dump(mode="json", include=_BUILT)


def live(args: AppArgs) -> dict[str, Any]:
    """The rest, as JSON has it."""
    said = args.limits.model_dump(mode="json", exclude_unset=True)  # `limits_for` asks what was said
    return {**args.model_dump(mode="json", exclude=_BUILT), "limits": said}


def with_live(args: AppArgs, given: Mapping[str, Any]) -> AppArgs:
    """The same with what `live` gave of others."""
    taken = AppArgs.model_validate({**given, "preset": args.preset})
    told = {name: getattr(taken.observability, name) for name in ("log_format", "log_level")}
    return taken.model_copy(
        update={
            "storage": args.storage,
            "webhooks": args.webhooks,
            "observability": args.observability.model_copy(update=told),
        }
    )
