"""Webhooks against a real receiver: signed, repeated until they are taken, never sent into a private network."""

import asyncio
import base64
import gzip
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from openai import OpenAI
from sqlalchemy import select, update
from standardwebhooks.webhooks import Webhook

from client.schema import JobError
from deployments.api.answers import webhook_answer
from deployments.errors import InvalidRequestError
from deployments.jobs.values import JobRequest, NewJob, Update
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.journal.tables import deliveries
from deployments.tenants.addresses import PrivateAddressError, public_address
from deployments.tenants.webhooks import AT_ONCE, PER_TENANT, RETRY_S, Courier, judge_url

REQUEST = JobRequest(prompt="a fox", model="tiny", size="256x256", seconds="2", seed=7)
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
DEADLINE_S = 120.0


class Receiver(ThreadingHTTPServer):
    """Keeps what is posted; answers with `answers` in turn, the last one for ever."""

    def __init__(self, answers: list[int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.posts: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://localhost:{self.server_port}/hook?a=b"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.posts.append(({name.lower(): value for name, value in self.headers.items()}, body))
        status = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        self.send_response(status)
        self.send_header("location", "http://localhost:1/elsewhere")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver([200])
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))  # else its end takes half a second
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def row(journal: Journal, job_id: str | None = None) -> Any:
    which = [] if job_id is None else [deliveries.c.job_id == job_id]
    with journal.database.read() as connection:
        return connection.execute(select(deliveries).where(*which)).one()


def hurry(journal: Journal) -> None:
    """The next attempt is due now."""
    with journal.database.write() as connection:
        connection.execute(update(deliveries).where(deliveries.c.due_at.is_not(None)).values(due_at=0.0))


async def deliver(
    journal: Journal, until: Callable[[], bool], *, private: bool = True, post_s: float = DEADLINE_S
) -> None:
    """Run the courier until something holds; every attempt is due at once."""
    body = partial(webhook_answer, journal)
    courier = Courier(journal.database, SECRET, body, allow_private=private, poll_s=0.01, post_s=post_s)
    running = asyncio.create_task(courier.run())
    async with asyncio.timeout(DEADLINE_S):
        while not until():
            hurry(journal)
            await asyncio.sleep(0.01)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


def ended(journal: Journal, url: str, error: JobError | None = None) -> str:
    leases = Leases(journal.database)
    job = journal.submit(NewJob(REQUEST, webhook_url=url))[0]
    assert row(journal, job.id).due_at is None
    claimed = leases.claim("a", 60.0)
    assert claimed is not None
    leases.finish(
        Update(claimed[0]), "failed" if error else "succeeded", error=error, result=None if error else {"key": "k"}
    )
    assert row(journal, job.id).due_at is not None
    return job.id


async def test_the_end_of_a_job_is_told_once_signed(journal: Journal, receiver: Receiver) -> None:
    job_id = ended(journal, receiver.url)
    await deliver(journal, lambda: row(journal).delivered_at is not None)
    [(headers, body)] = receiver.posts
    said = Webhook(SECRET).verify(body, headers)
    assert (said["type"], said["data"]["id"], said["data"]["status"]) == ("video.completed", job_id, "completed")
    assert (said["id"], said["object"]) == (job_id.replace("video_", "evt_"), "event")
    assert said["created_at"] == int(journal.get(job_id).finished_at or 0)
    event: Any = OpenAI(api_key="none", webhook_secret=SECRET).webhooks.unwrap(body, headers)
    assert (event.type, event.id, event.data.id) == ("video.completed", said["id"], job_id)
    assert headers["host"] == f"localhost:{receiver.server_port}"
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(SECRET).verify(body + b" ", headers)


async def test_a_failure_is_told_too_and_repeated_under_one_id_until_it_is_taken(
    journal: Journal, receiver: Receiver
) -> None:
    receiver.answers = [500, 302, 204]
    ended(journal, receiver.url, JobError(code="stage_failed", message="no"))
    await deliver(journal, lambda: row(journal).delivered_at is not None)
    assert [Webhook(SECRET).verify(body, headers)["type"] for headers, body in receiver.posts] == ["video.failed"] * 3
    assert len({headers["webhook-id"] for headers, _ in receiver.posts}) == 1
    assert row(journal).attempts == 3


class Slow(socketserver.ThreadingTCPServer):
    """Answers with a beginning, then with the same bytes for ever; counts what it could send."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, beginning: bytes, again: bytes, pause_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _SlowHandler)
        self.beginning, self.again, self.pause_s = beginning, again, pause_s
        self.open, self.sent = 0, 0

    @property
    def url(self) -> str:
        return f"http://localhost:{self.server_address[1]}/hook"


class _SlowHandler(socketserver.BaseRequestHandler):
    server: Slow

    def handle(self) -> None:
        self.server.open += 1
        with suppress(OSError):
            self.request.sendall(self.server.beginning)
            while True:
                self.request.sendall(self.server.again)
                self.server.sent += len(self.server.again)
                time.sleep(self.server.pause_s)
        self.server.open -= 1


@contextmanager
def slow(beginning: bytes, again: bytes, pause_s: float = 0.05) -> Iterator[Slow]:
    with Slow(beginning, again, pause_s) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.slow
async def test_a_place_that_drips_headers_holds_up_nobody_else_and_has_one_deadline(
    journal: Journal, receiver: Receiver
) -> None:
    with slow(b"HTTP/1.1 200 OK\r\n", b"x-more: 1\r\n") as dripping:
        ids = [ended(journal, dripping.url) for _ in range(PER_TENANT + 1)]
        ended(journal, receiver.url)
        await deliver(journal, lambda: len(receiver.posts) > 0)
        await deliver(journal, lambda: all(row(journal, one).attempts for one in ids), post_s=0.1)
    assert row(journal, ids[0]).delivered_at is None


async def test_an_answer_without_end_is_taken_by_its_status_and_never_read(journal: Journal) -> None:
    bomb = gzip.compress(bytes(2**20))
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 9999999999\r\n\r\n"
    with slow(head, bomb * 64, pause_s=0.0) as endless:
        ended(journal, endless.url)
        await deliver(journal, lambda: row(journal).delivered_at is not None)
        async with asyncio.timeout(DEADLINE_S):
            while endless.open:
                await asyncio.sleep(0.01)
    assert endless.sent < 32 * 2**20  # what sockets hold


def test_no_tenant_has_all_posts(journal: Journal) -> None:
    leases, courier = Leases(journal.database), Courier(journal.database, SECRET, lambda _: None, allow_private=True)
    for number in range(AT_ONCE):
        journal.submit(NewJob(REQUEST, tenant="a", webhook_url=f"http://host{number}.example"))
    journal.submit(NewJob(REQUEST, tenant="b", webhook_url="http://host1.example.com"))
    while (claimed := leases.claim("a", 60.0)) is not None:
        leases.finish(Update(claimed[0]), "succeeded", result={"key": "k"})
    taken: list[Any] = []
    while (due := courier._take(taken)) is not None:
        taken.append(due)
    assert [due.tenant for due in taken] == ["a"] * PER_TENANT + ["b"]


@pytest.mark.parametrize(("status", "posts"), [(410, 1), (500, len(RETRY_S) + 1)])
async def test_what_nobody_takes_is_given_up(journal: Journal, receiver: Receiver, status: int, posts: int) -> None:
    receiver.answers = [status]
    ended(journal, receiver.url)
    await deliver(journal, lambda: row(journal).error is not None)
    assert (row(journal).due_at, row(journal).error, len(receiver.posts)) == (None, f"status {status}", posts)


async def test_a_private_address_is_never_posted_to(journal: Journal, receiver: Receiver) -> None:
    ended(journal, receiver.url)
    await deliver(journal, lambda: row(journal).error is not None, private=False)
    assert "not a public one" in row(journal).error
    assert receiver.posts == []
    private = ("127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "0.0.0.0", "100.64.0.1", "224.0.0.1", "2130706433")
    embedded = ("::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::7f00:1", "::ffff:0:7f00:1", "64:ff9b:1::1")
    of_clouds = ("192.0.0.192", "168.63.129.16", "100.100.100.200", "fd00:ec2::254")
    for host in (*private, *embedded, *of_clouds, "fe80::1", "fec0::1", "ff02::1"):
        with pytest.raises(PrivateAddressError, match="not a public one"):
            public_address(host, 80)
    for host in ("8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"):
        assert public_address(host, 80) == host


def test_of_several_addresses_the_one_that_is_reached_best_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, 0, 0, "", ("93.184.216.34", 80)), (socket.AF_INET6, 0, 0, "", ("2606:2800::1", 80, 0, 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)  # as where there is no way for IPv6
    assert public_address("example.com", 80) == "93.184.216.34"
    found.append((socket.AF_INET, 0, 0, "", ("10.0.0.1", 80)))
    with pytest.raises(PrivateAddressError):
        public_address("example.com", 80)


def test_a_cancelled_job_is_told_and_a_deleted_one_forgotten(journal: Journal) -> None:
    job_id = journal.submit(NewJob(REQUEST, webhook_url="https://example.com/"))[0].id
    journal.request_cancel(job_id)
    assert row(journal).due_at is not None
    journal.delete(job_id)
    with journal.database.read() as connection:
        assert connection.execute(select(deliveries)).first() is None


@pytest.mark.parametrize(
    "url", ["", "example.com", "ftp://example.com", "https://", "https://a b", "http://[", "http://a:0"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequestError, match="it must be an address like"):
        judge_url(url, enabled=True)


def test_a_server_without_a_secret_refuses_webhooks() -> None:
    judge_url(None, enabled=False)
    judge_url("https://example.com/hook", enabled=True)
    with pytest.raises(InvalidRequestError, match=r"webhooks\.secret"):
        judge_url("https://example.com/hook", enabled=False)
