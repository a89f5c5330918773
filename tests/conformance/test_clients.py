"""The packages of others against the live server; the table of the README is what this run has found."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.settings.reading import load_config
from deployments.settings.variants import laptop, rehearsal
from tests.conformance.suite import CLIENTS, FAST, Report, run_bodies, run_programs
from tests.e2e.rig import Rig, SecondApp

pytestmark = pytest.mark.slow

README = Path(__file__).with_name("README.md")


@pytest.fixture(scope="module")
def report(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Report]:
    args = rehearsal(laptop(load_config(), data_dir=tmp_path_factory.mktemp("data")), FAST)
    app = SecondApp(rig, "clients", args)
    try:
        url = str(app.http.base_url).rstrip("/")
        found = run_programs(url, tmp_path_factory.mktemp("clients"))
        found.rows += run_bodies(url)
        yield found
    finally:
        app.close()


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_finds_what_it_wants(report: Report, client: str) -> None:
    if client in report.left_out:
        pytest.skip(report.left_out[client])
    assert [row for row in report.failed if row.client == client] == []


def test_bodies_make_videos_on_the_live_server(report: Report) -> None:
    assert [row for row in report.failed if row.client not in CLIENTS] == []


def test_the_table_of_the_readme_is_what_was_found(report: Report) -> None:
    if report.left_out:
        pytest.skip("; ".join(report.left_out.values()))
    assert report.table() in README.read_text(), f"tests/conformance/README.md needs:\n{report.table()}"
