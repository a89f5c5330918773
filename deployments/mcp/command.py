"""`python -m deployments mcp`: the tools of `deployments.mcp.tools` over stdin and stdout, for one host.

A host starts it, as Claude Desktop or an editor does; it ends when that closes stdin. The server whose videos it makes
is named by `--url` or `MAGICVIDEO_URL`, its key by `--api-key` or `MAGICVIDEO_API_KEY`.
"""

import argparse
import asyncio
from importlib.util import find_spec
from typing import Any

from deployments.errors import ConfigError, StartError


def add_mcp_command(commands: Any) -> None:
    """Put it among the commands."""
    command = commands.add_parser("mcp", help="tools for assistants (Model Context Protocol) over stdin and stdout")
    command.set_defaults(run=_run)
    command.add_argument("--url", help="address of a running server (MAGICVIDEO_URL, else http://127.0.0.1:8000)")
    command.add_argument("--api-key", help="its key, where it wants one (MAGICVIDEO_API_KEY)")


def _run(options: argparse.Namespace) -> int:
    if find_spec("mcp") is None:
        raise StartError("The package mcp is not installed here; run `pip install 'mcp>=2'` and try again.")
    asyncio.run(_serve(options.url, options.api_key))
    return 0


async def _serve(url: str | None, api_key: str | None) -> None:
    from client import AsyncClient, InvalidArgumentError  # here, as no other command needs these
    from deployments.mcp.tools import make_server

    try:
        client = AsyncClient(url, api_key)
    except InvalidArgumentError as error:
        raise ConfigError(str(error)) from error
    async with client:
        await make_server(client).run_stdio_async()
