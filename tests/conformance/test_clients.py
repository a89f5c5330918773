"""The packages of others against the live server; the table of the README is what this run has found.

What takes longest of them, a proxy and a load generator, is left to `make test-bench`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.settings.reading import load_config
from deployments.settings.variants import laptop, rehearsal
from tests.conformance.suite import CLIENTS, FAST, Report, run_bodies, run_programs
from tests.e2e.rig import Rig, SecondApp

pytestmark = pytest.mark.slow

README = Path(__file__).with_name("README.md")
LONG = {"LiteLLM proxy", "AIPerf"}


@pytest.fixture(scope="module")
def report(request: pytest.FixtureRequest, rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Report]:
    """Of the clients that this session asks for."""
    args = rehearsal(laptop(load_config(), data_dir=tmp_path_factory.mktemp("data")), FAST)
    app = SecondApp(rig, "clients", args)
    try:
        url = str(app.http.base_url).rstrip("/")
        found = run_programs(url, tmp_path_factory.mktemp("clients"), asked_for(request.session))
        found.rows += run_bodies(url)
        yield found
    finally:
        app.close()


def asked_for(session: pytest.Session) -> list[str]:
    own = test_a_client_finds_what_it_wants.__name__
    tests = [item for item in session.items if isinstance(item, pytest.Function) and item.originalname == own]
    return [str(test.callspec.params["client"]) for test in tests]


@pytest.mark.parametrize(
    "client", [pytest.param(name, marks=[pytest.mark.bench] if name in LONG else []) for name in CLIENTS]
)
def test_a_client_finds_what_it_wants(report: Report, client: str) -> None:
    if client in report.left_out:
        pytest.skip(report.left_out[client])
    assert [row for row in report.failed if row.client == client] == []


def test_bodies_make_videos_on_the_live_server(report: Report) -> None:
    assert [row for row in report.failed if row.client not in CLIENTS] == []


def test_the_table_of_the_readme_is_what_was_found(report: Report) -> None:
    found: dict[str, dict[str, str]] = {}
    for row in report.rows:
        found.setdefault(row.client, {})[row.operation] = "no" if row.error else "yes"
    shown = table(README.read_text())
    assert {client: shown.get(client) for client in found} == found, f"tests/conformance/README.md:\n{report.table()}"
    assert set(CLIENTS) <= set(shown)


def table(text: str) -> dict[str, dict[str, str]]:
    """By client, what is said of each operation that it does."""
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line.startswith("|")]
    (_, *operations), _, *clients = rows
    return {
        name: {operation: cell for operation, cell in zip(operations, cells, strict=True) if cell}
        for name, *cells in clients
    }
