"""From a Serve config file and the environment to typed arguments; every finding in one sentence.

`check_environment` refuses settings of Ray that would send payloads by value.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from client._shell.texts import read_text
from cluster.pools.stage_args import ServeConfigError, our_application
from deployments.errors import ConfigError
from deployments.settings.application import AppArgs
from deployments.settings.secrets import OTLP_KEY, shown, without_password

CONFIG_PATH = Path(__file__).resolve().parents[2] / "serve_config.yaml"

# They switch deployment handles to by-value gRPC: 310 MB of frames would go through the pipeline process.
FORBIDDEN_ENV = ("RAY_SERVE_THROUGHPUT_OPTIMIZED", "RAY_SERVE_USE_GRPC_BY_DEFAULT")


def load_config(path: Path = CONFIG_PATH) -> AppArgs:
    """The arguments of the application in a Serve config file.

    Raises:
        ConfigError: the file is missing, is no Serve config, or asks for something that does not exist.
    """
    try:
        _, ours = our_application(read_text(path, ConfigError), str(path))
    except ServeConfigError as error:
        raise ConfigError(str(error)) from error
    return with_environment(parse_args(ours.get("args") or {}, source=str(path)))


def with_environment(args: AppArgs, environment: Mapping[str, str] | None = None) -> AppArgs:
    """The same with what the environment says, which wins over a file.

    `DATABASE_URL` names the database, and is named here, not read; `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or
    `OTEL_EXPORTER_OTLP_ENDPOINT` the collector of traces.

    Raises:
        ConfigError: the collector's address holds a password.
    """
    given = os.environ if environment is None else environment
    changed: dict[str, Any] = {}
    if given.get("DATABASE_URL"):
        changed["storage"] = args.storage.model_copy(update={"database_url": "env:DATABASE_URL"})
    base = given.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").rstrip("/")
    if traces := given.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or (base and f"{base}/v1/traces"):
        try:
            url = without_password(traces, OTLP_KEY)
        except ValueError as error:
            raise ConfigError(f"The address of traces in the environment cannot be used: {error}.") from None
        changed["observability"] = args.observability.model_copy(update={"otlp_url": url})
    return args.model_copy(update=changed) if changed else args


def parse_args(args: dict[str, Any], source: str = "args") -> AppArgs:
    """Judge arguments; every finding in one sentence.

    Raises:
        ConfigError: something in them cannot be served.
    """
    try:
        return AppArgs.model_validate(args)
    except ValidationError as error:
        findings = [
            f"{'.'.join(str(part) for part in item['loc']) or 'args'}: {item['msg']}{shown(item)}"
            for item in error.errors()
        ]
        raise ConfigError(f"{source}: {'; '.join(findings)}.") from None


def check_environment(environment: dict[str, str] | None = None) -> None:
    """Refuse settings of Ray under which payloads would travel by value.

    Raises:
        ConfigError: one of `FORBIDDEN_ENV` is on.
    """
    found = os.environ if environment is None else environment
    for name in FORBIDDEN_ENV:
        if found.get(name, "0").lower() not in ("", "0", "false"):
            raise ConfigError(
                f"{name}={found[name]} makes Ray Serve send values instead of references, and frames would pass "
                f"through the pipeline's process; unset it on every node."
            )
