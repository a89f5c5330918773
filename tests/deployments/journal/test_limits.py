"""Limits of tenants on SQLite and PostgreSQL: they hold with many claimers and many posts at once."""

import threading
from collections import Counter
from collections.abc import Callable

import pytest
from sqlalchemy import Connection, func, select, update

from deployments.bulkheads import Bulkhead
from deployments.errors import NotAllowedError, QueueFullError, RateLimitError
from deployments.intake.admission import Admission
from deployments.jobs.values import NOBODY, Claim, Job, JobRequest, Limits, NewJob, Source, Update
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.journal.limits import LimitBook, check, limits_of
from deployments.journal.outputs import fold, held_bytes
from deployments.journal.tables import acceptances, erasures, holdings
from deployments.settings.application import AppArgs, IngressArgs
from tests.deployments.journal.job_acts import finished, kept

REQUEST = JobRequest(prompt="a fox", model="tiny", size="256x256", seconds="2", seed=7)
LONG_S, LAPSED_S = 60.0, -1.0
DEFAULT = Limits()
AT_JOURNAL = Bulkhead("The journal's database", threads=8, wait_s=60.0)


def submit(journal: Journal, tenant: str, limits: Limits = DEFAULT, priority: int = 0) -> str:
    def admit(connection: Connection, now: float) -> None:
        check(connection, tenant, limits_of(connection, tenant, limits), now=now, wait_s=12.2)

    return journal.submit(NewJob(REQUEST, tenant=tenant, priority=priority), admit=admit)[0].id


def at_once(count: int, act: Callable[[int], None]) -> None:
    """`act` in so many threads, all let go at the same time; what one raises is raised."""
    start, raised = threading.Barrier(count), []

    def run(number: int) -> None:
        start.wait()
        try:
            act(number)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raised == []


def test_a_tenant_at_its_limit_waits_and_blocks_nobody(journal: Journal, leases: Leases) -> None:
    LimitBook(journal.database).change("a", {"max_running": 1}, DEFAULT)
    first, second = submit(journal, "a"), submit(journal, "a")
    others = [submit(journal, "b"), submit(journal, "b")]
    got = [leases.claim("x", LONG_S) for _ in range(4)]
    assert [claimed[1].id for claimed in got if claimed] == [first, *others]
    assert got[3] is None
    held = got[0]
    assert held is not None
    leases.finish(Update(held[0]), "succeeded", result={})
    claimed = leases.claim("x", LONG_S)
    assert claimed is not None
    assert claimed[1].id == second


def test_defaults_are_for_tenants_without_a_row_and_a_row_may_have_no_limit(journal: Journal, leases: Leases) -> None:
    LimitBook(journal.database).change("free", {"max_running": None}, Limits(max_running=1))
    for tenant in ("free", "free", "a", "a", "b"):
        submit(journal, tenant)
    running = Counter[str]()
    while (claimed := leases.claim("x", LONG_S, Limits(max_running=1))) is not None:
        running[claimed[1].tenant] += 1
    assert running == {"free": 2, "a": 1, "b": 1}


def test_a_job_whose_lease_lapsed_is_taken_over_at_the_limit(journal: Journal, leases: Leases) -> None:
    job_id = submit(journal, "a")
    submit(journal, "a")
    limits = Limits(max_running=1)
    assert leases.claim("x", LAPSED_S, limits) is not None
    again = leases.claim("y", LONG_S, limits)
    assert again is not None
    assert (again[1].id, leases.claim("z", LONG_S, limits)) == (job_id, None)


def test_priority_goes_first_and_then_who_came_first_whatever_the_tenant(journal: Journal, leases: Leases) -> None:
    low = submit(journal, "a", priority=-1)
    old = [submit(journal, tenant) for tenant in ("a", "b", "a")]
    high = [submit(journal, tenant, priority=3) for tenant in ("b", "a")]
    order = []
    while (claimed := leases.claim("x", LONG_S)) is not None:
        order.append(claimed[1].id)
    assert order == [*high, *old, low]


def test_a_limit_holds_with_many_claimers_at_once(url: str) -> None:
    claimers, limit, total = 6, 2, 12
    journals = [Journal(Database(url)) for _ in range(claimers)]
    leases = [Leases(journal.database) for journal in journals]
    LimitBook(journals[0].database).change("a", {"max_running": limit}, DEFAULT)
    for _ in range(total):
        submit(journals[0], "a")
    done: list[str] = []
    while len(done) < total:
        got: list[tuple[Claim, Job]] = []

        def claim(number: int, got: list[tuple[Claim, Job]] = got) -> None:
            claimed = leases[number].claim(f"w{number}", LONG_S)
            if claimed is not None:
                got.append(claimed)

        at_once(claimers, claim)
        assert len(got) == limit
        assert journals[0].counts()["running"] == limit
        for held, job in got:
            leases[0].finish(Update(held), "succeeded", result={})
            done.append(job.id)
    assert len(set(done)) == total
    for journal in journals:
        journal.database.close()


def test_a_tenants_queue_has_a_bound_of_its_own(journal: Journal, leases: Leases) -> None:
    limits = Limits(max_queued=2)
    for _ in range(2):
        submit(journal, "a", limits)
    with pytest.raises(
        RateLimitError, match="2 videos of this API key's tenant are waiting or paused and its limit is 2"
    ) as full:
        submit(journal, "a", limits)
    assert (full.value.code, full.value.headers) == ("tenant_queue_full", {"Retry-After": "13"})
    submit(journal, "b", limits)
    leases.claim("x", LONG_S)
    submit(journal, "a", limits)


def test_a_paused_job_counts_as_one_that_waits(journal: Journal, leases: Leases) -> None:
    limits = Limits(max_queued=2)
    for _ in range(2):
        submit(journal, "a", limits)
        claimed = leases.claim("x", LONG_S)
        assert claimed is not None
        leases.pause(Update(claimed[0]), "t2i")
    with pytest.raises(RateLimitError, match="2 videos of this API key's tenant are waiting or paused"):
        submit(journal, "a", limits)


@pytest.mark.parametrize(
    ("limit", "priority", "allowed"), [(0, 1, False), (3, 3, True), (3, 4, False), (None, 10, True)]
)
async def test_who_may_ask_for_which_priority_is_a_limit(
    journal: Journal, limit: int | None, priority: int, allowed: bool
) -> None:
    admission = Admission(
        journal.database,
        AT_JOURNAL,
        preset="tiny",
        limits=lambda _tenant: Limits(max_priority=limit),
        retry_after_s=7,
        replicas=dict,
    )
    admit = await admission.judge(REQUEST, "a", priority, None)
    new = NewJob(REQUEST, tenant="a", priority=priority)
    if allowed:
        assert journal.submit(new, admit=admit)[0].priority == priority
        return
    with pytest.raises(NotAllowedError, match=f"priority is {priority} and the limit of .* is {limit};"):
        journal.submit(new, admit=admit)


def test_without_a_word_one_tenant_has_half_of_the_queue_and_the_usual_priority() -> None:
    args = AppArgs(ingress=IngressArgs(max_queued_jobs=9))
    assert args.limits_for("a") == Limits(max_queued=4, max_priority=0)
    assert args.limits_for(NOBODY) == Limits()
    said = AppArgs.model_validate({"limits": {"max_queued": None, "max_priority": 5}})
    assert said.limits_for("a") == Limits(max_priority=5)


def test_a_tenants_bound_holds_with_many_posts_at_once(url: str) -> None:
    journals = [Journal(Database(url)) for _ in range(6)]
    refused: list[str | None] = []

    def post(number: int) -> None:
        try:
            submit(journals[number], "a", Limits(max_queued=2, per_minute=3))
        except RateLimitError as error:
            refused.append(error.code)

    at_once(6, post)
    assert journals[0].counts() == {"queued": 2}
    assert refused == ["tenant_queue_full"] * 4
    for journal in journals:
        journal.database.close()


def test_so_many_are_accepted_in_a_minute_and_the_next_is_told_when(journal: Journal) -> None:
    limits = Limits(per_minute=2)
    for _ in range(2):
        job_id = submit(journal, "a", limits)
        journal.request_cancel(job_id)
        journal.delete(job_id)  # it was accepted all the same
    with pytest.raises(RateLimitError, match="the limit of this API key's tenant is 2") as refused:
        submit(journal, "a", limits)
    assert refused.value.code == "rate_limited"
    submit(journal, "b", limits)

    def move(by_s: float) -> None:
        with journal.database.write() as connection:
            connection.execute(update(acceptances).values(at=acceptances.c.at - by_s))

    move(50)
    with pytest.raises(RateLimitError) as refused:
        submit(journal, "a", limits)
    assert 1 <= int(refused.value.headers["Retry-After"]) <= 10
    move(10)
    submit(journal, "a", limits)


def test_a_tenants_files_are_counted_once_each_and_their_bytes_are_a_limit(journal: Journal) -> None:
    picture = Source(key="uploads/a/source.png", sha256="00", kind="picture", enters="i2v", width=256, height=256)
    begun = REQUEST.model_copy(update={"source": picture.model_copy(update={"size_bytes": 4})})
    parent = finished(journal, begun, "a", t2i=kept("t2i"), i2v=kept("i2v"))  # two outputs and a video, of 3 bytes each
    finished(journal, tenant="b", t2i=kept("other"))

    def held(tenant: str = "a") -> int:
        with journal.database.write() as connection:
            fold(connection, holdings)
            assert connection.execute(select(func.count()).select_from(holdings)).scalar_one() <= 2
            return held_bytes(connection, tenant)

    assert (held(), held("b"), held("nobody")) == (13, 6, 0)
    with pytest.raises(NotAllowedError, match="of this API key's tenant take 13 bytes and its limit is 13;") as refused:
        submit(journal, "a", Limits(max_bytes=13))
    assert (refused.value.status, refused.value.code) == (403, "tenant_storage_full")
    child = journal.submit(NewJob(REQUEST, tenant="a", parent_id=parent, needs={"t2i": [0]}))[0].id
    assert held() == 13
    journal.delete(parent, tenant="a")
    assert (held(), held("b")) == (3, 6)  # what the remix begins from
    submit(journal, "a", Limits(max_bytes=13))
    journal.request_cancel(child)
    journal.delete(child, tenant="a")
    assert held() == 0


def test_an_output_that_is_made_again_takes_the_place_of_the_first(journal: Journal, leases: Leases) -> None:
    submit(journal, "a")
    claimed = leases.claim("x", LONG_S)
    assert claimed is not None
    for name, size in (("one", 3), ("two", 5), ("two", 5)):
        assert leases.keep(claimed[0], "t2i", 0, {**kept(name), "bytes": size})
    with journal.database.read() as connection:
        assert held_bytes(connection, "a") == 5
        assert list(connection.execute(select(erasures.c.key)).scalars()) == ["checkpoints/one.bin"]


def test_a_repeated_request_is_answered_whatever_the_limits(journal: Journal) -> None:
    def never(_connection: object, _now: float) -> None:
        raise RateLimitError("No", 1.0, code="rate_limited")

    job, _ = journal.submit(NewJob(REQUEST, tenant="a", idem_key="k", body="b"))
    again, new = journal.submit(NewJob(REQUEST, tenant="a", idem_key="k", body="b"), admit=never)
    assert (again.id, new) == (job.id, False)
    with pytest.raises(RateLimitError):
        journal.submit(NewJob(REQUEST, tenant="b", idem_key="k", body="b"), admit=never)


def test_changing_one_limit_keeps_the_others_and_starts_from_the_defaults(journal: Journal) -> None:
    book = LimitBook(journal.database)
    assert book.all() == {}
    default = Limits(max_running=2, per_minute=60)
    assert book.change("a", {"max_queued": 5}, default) == Limits(max_running=2, max_queued=5, per_minute=60)
    assert book.change("a", {"max_running": None, "reuse": True}, default) == book.of("a", default)
    assert book.all() == {"a": Limits(max_queued=5, per_minute=60, reuse=True)}
    assert book.of("b", default) == default


async def test_the_ingress_asks_all_of_it_in_one_transaction(journal: Journal) -> None:
    admission = Admission(
        journal.database,
        AT_JOURNAL,
        preset="tiny",
        limits=lambda _tenant: Limits(max_queued=1),
        retry_after_s=7,
        replicas=dict,
    )
    for _ in range(2):
        admit = await admission.judge(REQUEST, "a", 0, None)
    journal.submit(NewJob(REQUEST, tenant="a"), admit=admit)
    with pytest.raises(RateLimitError) as refused:
        journal.submit(NewJob(REQUEST, tenant="a"), admit=admit)
    assert (refused.value.code, refused.value.headers["Retry-After"]) == ("tenant_queue_full", "7")
    with pytest.raises(QueueFullError):
        journal.submit(NewJob(REQUEST, tenant="a"), admit=admit, max_queued=1)


def test_jobs_are_claimed_of_each_tenant_by_its_weight_however_many_wait(journal: Journal, leases: Leases) -> None:
    for tenant in "a" * 12 + "b" * 2 + "c" * 9:
        submit(journal, tenant)
    LimitBook(journal.database).change("c", {"weight": 3}, DEFAULT)

    def claimed(most: int) -> Counter[str]:
        found = (leases.claim("one", LONG_S) for _ in range(most))
        return Counter(one[1].tenant for one in found if one is not None)

    before = claimed(5)
    assert before == {"a": 1, "b": 1, "c": 3}
    submit(journal, "a", priority=1)
    assert claimed(1) == {"a": 1}  # a class goes before that
    assert claimed(40) == {"a": 11, "b": 1, "c": 6}  # a share that nobody takes is for the others
