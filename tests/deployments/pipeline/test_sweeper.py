"""What goes by itself, on both databases, over files on a disk."""

from pathlib import Path

import fsspec
import pytest

from client.schema import JobError
from deployments.files.store import ArtifactStore
from deployments.jobs.values import NewJob, Update
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.journal.sweeps import PAGE, Sweeps
from deployments.observe.metrics import JobMetrics
from deployments.pipeline.sweeper import Sweeper
from deployments.settings.application import AppArgs, KeeperArgs, RetentionArgs, StorageArgs
from tests.deployments.journal.job_acts import REQUEST, claim, finished, kept, submit
from tests.s3 import new_bucket

NOW = RetentionArgs(
    paused_s=1e-9, events_s=1e-9, deliveries_s=1e-9, results_s=1e-9, orphans_s=1e-9, orphans_every_s=1e-9
)


def sweeper(journal: Journal, folder: Path | str, retention: RetentionArgs = NOW, **keeper: float) -> Sweeper:
    """Over a folder's `artifacts`, or another store's address."""
    storage = StorageArgs(artifacts_url=folder if isinstance(folder, str) else f"file://{folder}/artifacts")
    args = AppArgs(storage=storage, retention=retention, keeper=KeeperArgs.model_validate(keeper))
    return Sweeper(args, journal.database, JobMetrics())


def write(store: ArtifactStore, *keys: str) -> None:
    for key in keys:
        store.put_bytes(b"x", key, "application/octet-stream")


def test_all_that_is_old_goes_to_the_last_page(journal: Journal, leases: Leases, tmp_path: Path) -> None:
    store = ArtifactStore(f"file://{tmp_path}/artifacts")
    count = PAGE + 2
    ids = [finished(journal, t2i=kept(f"t{number}")) for number in range(count)]
    write(store, *(f"checkpoints/t{number}.bin" for number in range(count)), *(f"videos/{name}/1.mp4" for name in ids))
    sweeper(journal, tmp_path, ttl_s=1e-9).sweep()
    assert [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()] == []
    assert [journal.get(job_id).result for job_id in ids] == [None] * count
    assert [journal.events(job_id) for job_id in ids] == [[]] * count
    assert journal.counts() == {"succeeded": count}
    forgetting = NOW.model_copy(update={"jobs_s": 1e-9})
    sweeper(journal, tmp_path, forgetting).sweep()
    assert journal.counts() == {}


def test_what_is_young_stays(journal: Journal, leases: Leases, tmp_path: Path) -> None:
    store = ArtifactStore(f"file://{tmp_path}/artifacts")
    job_id = finished(journal, t2i=kept("t"))
    submit(journal)
    leases.pause(Update(claim(leases)[0]), "t2i")
    keys = ["checkpoints/t.bin", f"videos/{job_id}/1.mp4", "videos/nobody/1.mp4"]
    write(store, *keys)
    own = sweeper(journal, tmp_path, RetentionArgs(orphans_every_s=1e-9, results_s=3600.0, jobs_s=3600.0))
    own.sweep()
    assert all(store.exists(key) for key in keys)
    assert journal.counts() == {"succeeded": 1, "paused": 1}
    assert len(journal.events(job_id)) == 3


def test_a_paused_job_that_nobody_continues_fails_with_a_sentence(
    journal: Journal, leases: Leases, tmp_path: Path
) -> None:
    job_id = submit(journal)
    leases.pause(Update(claim(leases)[0]), "t2i")
    sweeper(journal, tmp_path, RetentionArgs(paused_s=1e-9)).sweep()
    job = journal.get(job_id)
    assert (job.state, job.error and job.error.code) == ("failed", "pause_expired")


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.slow)])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"file://{tmp_path}/artifacts" if request.param == "file" else new_bucket()


def test_files_that_no_row_names_go_and_others_stay(journal: Journal, artifacts: str) -> None:
    store = ArtifactStore(artifacts)
    job_id = finished(journal)
    half = "videos/half/1.mp4." + 32 * "0" + ".partial"
    lost = [f"checkpoints/lost/{number}.bin" for number in range(3)] + ["uploads/lost/source.png", half]
    write(store, *lost, f"videos/{job_id}/1.mp4")
    foreign, beside = f"{artifacts}/videos/NOTES.txt", f"{artifacts}-of-others/videos/lost/1.mp4"
    for mine in (foreign, beside):
        with fsspec.open(mine, "wb", auto_mkdir=True) as file:
            file.write(b"mine")
    assert sweeper(journal, artifacts, RetentionArgs()).sweep_orphans() == 0  # they are young
    assert sweeper(journal, artifacts).sweep_orphans() == len(lost)
    assert [key for key in lost if store.exists(key)] == []
    assert store.exists(f"videos/{job_id}/1.mp4")
    for mine in (foreign, beside):
        files, path = fsspec.core.url_to_fs(mine)
        assert files.exists(path)


@pytest.mark.slow
def test_an_upload_that_was_cut_off_goes(journal: Journal) -> None:
    """S3 keeps, and bills, its parts; no listing shows them."""
    bucket = new_bucket()
    files = fsspec.filesystem("s3")
    name = bucket.removeprefix("s3://").partition("/")[0]
    for key in ("kept/videos/lost/1.mp4", "others/videos/lost/1.mp4"):
        half = files.open(f"{name}/{key}", "wb", block_size=5 * 2**20)
        half.write(bytes(11 * 2**20))
        half.closed = True  # its process was killed
    assert len(files.list_multipart_uploads(name)) == 2
    assert sweeper(journal, bucket, RetentionArgs()).sweep_orphans() == 0
    assert sweeper(journal, bucket).sweep_orphans() == 1
    assert [left["Key"] for left in files.list_multipart_uploads(name)] == ["others/videos/lost/1.mp4"]


def test_a_file_whose_row_is_refused_goes(journal: Journal, leases: Leases, tmp_path: Path) -> None:
    store = ArtifactStore(f"file://{tmp_path}/artifacts")
    job_id = submit(journal)
    held, _ = claim(leases)
    write(store, "checkpoints/late.bin")
    leases.finish(Update(held), "cancelled", error=JobError(code="cancelled", message="enough"))
    assert not leases.keep(held, "i2v", 0, dict(kept("late")))
    sweeper(journal, tmp_path, RetentionArgs()).sweep()
    assert not store.exists("checkpoints/late.bin")
    assert journal.get(job_id).outputs == {}


def test_a_file_is_erased_once_the_store_is_back(journal: Journal) -> None:
    job_id = finished(journal)
    assert journal.delete(job_id) == [f"videos/{job_id}/1.mp4"]
    sweeps, erased = Sweeps(journal.database), list[str]()

    def away(_key: str) -> None:
        raise OSError("no route to host")

    assert sweeps.erase(away) == 0
    assert sweeps.to_erase() == 1
    assert sweeps.erase(erased.append, [f"videos/{job_id}/1.mp4"]) == 1
    assert (erased, sweeps.to_erase()) == ([f"videos/{job_id}/1.mp4"], 0)


def test_a_file_that_another_job_still_names_is_not_erased(journal: Journal) -> None:
    first, second = finished(journal, t2i=kept("t")), finished(journal, t2i=kept("t"))
    assert "checkpoints/t.bin" not in (journal.delete(first) or [])
    assert "checkpoints/t.bin" in (journal.delete(second) or [])


def test_webhooks_of_jobs_that_ended_long_ago_are_forgotten(journal: Journal) -> None:
    job_id = journal.submit(NewJob(REQUEST, webhook_url="https://example.com/hook"))[0].id
    journal.request_cancel(job_id)
    sweeps = Sweeps(journal.database)
    assert sweeps.deliveries(-1.0) == 0  # it is still to be delivered
    with journal.database.write() as connection:
        connection.exec_driver_sql("UPDATE deliveries SET due_at = NULL")
    assert (sweeps.deliveries(-1.0), sweeps.deliveries(-1.0)) == (1, 0)
