"""Bodies of other servers' clients against the application without Ray."""

from collections.abc import Iterator

import pytest

from tests.conformance import bodies
from tests.conformance.suite import Report, Row
from tests.conformance.worked import Worked


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    running = Worked(tmp_path_factory.mktemp("bodies"))
    running.start()
    yield running.url
    running.stop()


ATTEMPTS = [(client, operation) for client, operation, _ in bodies.attempts("")]


@pytest.mark.parametrize(("client", "operation"), ATTEMPTS)
def test_what_other_clients_send_makes_a_video(url: str, client: str, operation: str) -> None:
    acts = {(name, what): act for name, what, act in bodies.attempts(url)}
    acts[client, operation]()


def test_every_attempt_has_a_place_of_its_own() -> None:
    assert len(set(ATTEMPTS)) == len(ATTEMPTS)


def test_a_table_says_what_worked_and_what_did_not() -> None:
    report = Report([Row("a", "create", None), Row("a", "list", "no"), Row("b", "create", None)])
    assert report.table().splitlines()[2:] == ["| a | yes | no |", "| b | yes |  |"]
    figures = {"clients_all": 2, "clients_failed": 1, "operations_all": 3, "operations_failed": 1}
    assert report.figures() == figures
