"""A server that answers as the hub does about repositories, from recorded lists of their files."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

TREES: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "hub_trees.json").read_text())


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        *owner_and_name, _, revision = (*urlsplit(self.path).path.removeprefix("/api/models/").split("/", 3), "", "")[
            :4
        ]
        repository = "/".join(owner_and_name)
        known = TREES.get(repository)
        if known is None:
            self._say(404, {"error": "Repository not found"}, "RepoNotFound")
        elif unquote(revision) not in ("", "main", known["revision"]):
            self._say(404, {"error": f"Invalid rev id: {revision}"}, "RevisionNotFound")
        else:
            files = [{"rfilename": path, "size": size} for path, size in known["files"].items()]
            self._say(200, {"id": repository, "sha": known["revision"], "siblings": files, "tags": []})

    def _say(self, status: int, document: dict[str, Any], code: str = "") -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serve_trees() -> Iterator[str]:
    """Its address, while the context lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
