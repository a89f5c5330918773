"""A server that answers as the hub does: from recorded lists of files, and with the bytes of what a test publishes."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from stages.model.hub.published import PUBLISHED

# Of each repository: its commit, where its files were seen, path to bytes (0: unknown), the bytes of those that are
# fetched where they are known together alone, and what nobody says of it.
TREES: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "hub_trees.json").read_text())
_SOMETIME = "c" * 40  # the commit of a branch where none is known


def publish(repository: str, commit: str, files: dict[str, bytes]) -> None:
    """Another commit of a repository, as `main` from now on; all of its files can be fetched."""
    old = TREES.get(repository, {}).get("commits", {})
    TREES[repository] = {"revision": commit, "commits": {**old, commit: files}}


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        asked = re.fullmatch(r"/api/models/([^/]+/[^/]+?)(?:/(revision|tree)/(.+))?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        repository, revision = (asked[1], asked[3]) if asked else (file[1], file[2]) if file else ("", "")
        known = TREES.get(repository)
        commit = None if known is None else _commit(known, revision or "main")
        if known is None:
            self._say(404, {"error": "Repository not found"}, code="RepoNotFound")
        elif commit is None:
            self._say(404, {"error": f"Invalid rev id: {revision}"}, code="RevisionNotFound")
        elif asked:
            self._list(repository, commit, asked[2] == "tree")
        elif file:
            self._give(repository, commit, file[3])

    do_HEAD = do_GET  # noqa: N815 - as the library calls it

    def _list(self, repository: str, commit: str, tree: bool) -> None:
        files = _sizes(repository, commit)
        if tree:
            self._say(200, [{"type": "file", "path": path, "size": size, "oid": "0"} for path, size in files.items()])
            return
        siblings = [{"rfilename": path, "size": size} for path, size in files.items()]
        self._say(200, {"id": repository, "sha": commit, "siblings": siblings, "tags": []})

    def _give(self, repository: str, commit: str, path: str) -> None:
        files: dict[str, bytes] = TREES[repository].get("commits", {}).get(commit, {})
        if path == "model_index.json" and repository in PUBLISHED:
            files = {path: json.dumps(PUBLISHED[repository]["model_index"]).encode()}
        if path not in files:
            self._say(404, {"error": "Entry not found"}, code="EntryNotFound", commit=commit)
            return
        self._say(200, files[path], commit=commit)

    def _say(self, status: int, said: Any, *, code: str = "", commit: str = "") -> None:
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        headers = {"X-Error-Code": code, "X-Repo-Commit": commit, "Content-Type": "application/json"}
        headers |= {"Content-Length": str(len(body)), "ETag": f'"{hashlib.sha256(body).hexdigest()}"'}
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def _commit(known: dict[str, Any], revision: str) -> str | None:
    here = known["revision"] if len(known["revision"]) == 40 else _SOMETIME
    return here if revision in ("main", here) else revision if revision in known.get("commits", {}) else None


def _sizes(repository: str, commit: str) -> dict[str, int]:
    known = TREES[repository]
    if "commits" in known:
        return {path: len(content) for path, content in known["commits"][commit].items()}
    files: dict[str, int] = known["files"]
    return files


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


@contextmanager
def as_the_hub(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[None]:
    """The hub of this process, with its cache in a folder, while the context lasts."""
    monkeypatch.delenv("MAGICVIDEO_WEIGHTS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve_trees() as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield
