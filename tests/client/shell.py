"""The command line in this process, against the wire server."""

import json
from typing import Any

from typer.testing import CliRunner

from client.cli import app
from tests.client.wire import Wire


class Shell:
    """Runs commands, and holds what the last one said."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.code, self.out, self.err = 0, "", ""

    def __call__(self, *words: str, url: str | None = None) -> int:
        environment = {"MAGICVIDEO_URL": self.wire.url if url is None else url}
        result = CliRunner().invoke(app, list(words), env=environment, catch_exceptions=False)
        self.code, self.out, self.err = result.exit_code, result.stdout, result.stderr
        return self.code

    @property
    def document(self) -> Any:
        """The one document that `--json` puts on stdout."""
        return json.loads(self.out)
