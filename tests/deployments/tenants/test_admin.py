"""`python -m deployments keys` and `limits` as an operator types them: output, exit codes, what holds afterwards."""

from pathlib import Path

import pytest
import yaml
from sqlalchemy import select

from deployments.__main__ import main
from deployments.jobs.values import NOBODY, JobRequest, Limits, NewJob
from deployments.journal.database import opened
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.journal.limits import LimitBook
from deployments.journal.outputs import held_bytes, put_study_videos
from deployments.journal.tables import checkpoints, studies, tenants
from deployments.settings.reading import CONFIG_PATH
from deployments.tenants.keys import KeyBook
from tests.postgres import new_database


class Shell:
    """Runs commands on one server's database."""

    def __init__(self, place: list[str], url: str, capture: pytest.CaptureFixture[str]) -> None:
        self.place, self.url, self._capture = place, url, capture

    def run(self, *words: str) -> tuple[int, list[str], str]:
        """Exit code, lines of stdout, stderr."""
        code = main([*words, *self.place])
        said = self._capture.readouterr()
        return code, said.out.splitlines(), said.err

    def refusal(self, *words: str, code: int = 2, parser: bool = False) -> str:
        if parser:
            with pytest.raises(SystemExit) as left:
                self.run(*words)
            assert left.value.code == 2
            return self._capture.readouterr().err
        got, out, err = self.run(*words)
        assert (got, out) == (code, [])
        assert err.startswith("Error: ")
        assert err.count("\n") == 1
        return err


@pytest.fixture(params=["laptop", "cluster"])
def shell(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    if request.param == "laptop":
        return Shell(["--data-dir", str(tmp_path)], f"sqlite:///{tmp_path}/jobs.sqlite", capsys)
    url = new_database()
    document = yaml.safe_load(CONFIG_PATH.read_text())
    document["applications"][0]["args"] |= {"storage": {"database_url": url}, "limits": {"max_running": 4}}
    config = tmp_path / "serve.yaml"
    config.write_text(yaml.safe_dump(document))
    return Shell(["--cluster", "--config", str(config)], url, capsys)


def test_a_key_is_printed_once_listed_without_its_secret_and_revoked(shell: Shell) -> None:
    code, out, err = shell.run("keys", "list")
    assert (code, out) == (0, ["ID  TENANT  CREATED  REVOKED  LABEL"])
    assert "holds no valid key" in err
    code, out, err = shell.run("keys", "create", "--tenant", "studio", "--label", "laptop of Ann")
    assert (code, len(out)) == (0, 1)
    text = out[0]
    with opened(shell.url) as database:
        (key,) = KeyBook(database).all()
    assert text.startswith(f"mv_{key.id}_")
    assert f"Key {key.id} of tenant studio" in err
    assert text not in err
    code, out, err = shell.run("keys", "list")
    assert (code, err) == (0, "")
    assert out[1].split()[:2] == [key.id, "studio"]
    assert out[1].endswith("-        laptop of Ann")
    assert text not in "".join(out)
    code, out, err = shell.run("keys", "revoke", key.id)
    assert (code, "is revoked since" in out[0], "within 3 s" in err) == (0, True, True)
    assert "refuses every request until there is one" in err
    assert "refuses every request until there is one" in shell.run("keys", "list")[2]
    code, out, err = shell.run("keys", "open")
    assert (code, "1 revoked key is forgotten" in out[0], "without a key" in out[0]) == (0, True, True)
    with opened(shell.url) as database:
        assert not KeyBook(database).in_use()


def test_while_a_key_is_valid_the_server_is_not_opened(shell: Shell) -> None:
    text = shell.run("keys", "create", "--tenant", "studio")[1][0]
    assert text.split("_")[1] in shell.refusal("keys", "open")


def test_the_first_key_says_what_it_hides_and_who_gets_it(shell: Shell) -> None:
    request = JobRequest(prompt="a fox", model="tiny", size="256x256", seconds="2", seed=7)
    with opened(shell.url) as database:
        journal, leases = Journal(database), Leases(database)
        ids = [journal.submit(NewJob(request, idem_key=key))[0].id for key in ("k", None)]
        claimed = leases.claim("test", 60.0)
        assert claimed is not None
        leases.keep(claimed[0], "t2i", 0, {"key": "checkpoints/a/b.bin", "digest": "d", "bytes": 7})
    err = shell.run("keys", "create", "--tenant", "studio")[2]
    assert "The 2 videos that were made without are hidden from everybody; `keys adopt --tenant NAME`" in err
    assert "hidden" not in shell.run("keys", "create", "--tenant", "other")[2]
    with opened(shell.url) as database:
        Journal(database).submit(NewJob(request, tenant="studio", idem_key="k"))
    assert shell.run("keys", "adopt", "--tenant", "studio")[1] == ["2 videos that were nobody's belong to studio now."]
    with opened(shell.url) as database:
        assert {job.id for job in Journal(database).page(tenant="studio")[0]} > set(ids)
        with database.read() as connection:
            assert set(connection.execute(select(checkpoints.c.tenant)).scalars()) == {"studio"}
            assert held_bytes(connection, "studio") == 7
    assert shell.run("keys", "adopt", "--tenant", "studio")[1][0].startswith("0 videos")


def test_a_study_and_its_videos_are_hidden_and_handed_over_too(shell: Shell) -> None:
    row = {"idem_key": "k", "body_hash": "", "created_at": 1.0, "state": "ready", "title": "", "instructions": ""}
    with opened(shell.url) as database, database.write() as connection:
        for study_id, tenant in (("study_a", NOBODY), ("study_b", "studio")):
            values = {**row, "id": study_id, "tenant": tenant, "plan": {}, "digest": ""}
            connection.execute(studies.insert().values(**values))
        put_study_videos(connection, "study_a", NOBODY, {0: {"key": "studies/a/0.mp4", "sha256": "d", "bytes": 7}})
    err = shell.run("keys", "create", "--tenant", "studio")[2]
    assert "The 1 study that was made without is hidden from everybody; `keys adopt --tenant NAME` hands it over" in err
    assert shell.run("keys", "adopt", "--tenant", "studio")[1] == ["1 study that was nobody's belongs to studio now."]
    with opened(shell.url) as database, database.read() as connection:
        assert set(connection.execute(select(studies.c.tenant)).scalars()) == {"studio"}
        assert set(connection.execute(select(checkpoints.c.tenant)).scalars()) == {"studio"}
        assert held_bytes(connection, "studio") == 7


def test_an_unknown_key_is_named_with_its_database(shell: Shell) -> None:
    said = shell.refusal("keys", "revoke", "nobody")
    assert "No key has the id 'nobody'" in said
    assert "jobs.sqlite" in said or "postgresql" in said


def test_limits_are_set_one_by_one_and_shown_for_everybody(shell: Shell) -> None:
    default = "none" if "--data-dir" in shell.place else "4"
    code, out, err = shell.run("limits", "set", "--tenant", "studio", "--max-queued", "5", "--reuse")
    assert code == 0
    assert out[1].split() == ["studio", default, "5", "none", "0", "none", "none", "yes"]
    assert "had the defaults" in err
    code, out, err = shell.run("limits", "set", "--tenant", "studio", "--max-running", "2", "--max-queued", "none")
    assert (out[1].split(), err) == (["studio", "2", "none", "none", "0", "none", "none", "yes"], "")
    shell.run(
        "limits",
        "set",
        "--tenant",
        "studio",
        "--no-reuse",
        "--per-minute",
        "30",
        "--max-bytes",
        "5000000000",
        "--weight",
        "3",
    )
    with opened(shell.url) as database:
        wanted = Limits(max_running=2, per_minute=30, max_priority=0, weight=3, max_bytes=5_000_000_000)
        assert LimitBook(database).all() == {"studio": wanted}
    shell.run("keys", "create", "--tenant", "other")
    code, out, _ = shell.run("limits", "show")
    assert code == 0
    assert [line.split() for line in out] == [
        ["TENANT", "MAX_RUNNING", "MAX_QUEUED", "PER_MINUTE", "MAX_PRIORITY", "WEIGHT", "MAX_BYTES", "REUSE"],
        ["studio", "2", "none", "30", "0", "3", "5000000000", "no"],
        ["other", default, "500", "none", "0", "none", "none", "no"],
        ["(others)", default, "500", "none", "0", "none", "none", "no"],
    ]


def test_a_change_of_nothing_is_refused(shell: Shell) -> None:
    assert "give --max-running, --max-queued" in shell.refusal("limits", "set", "--tenant", "studio")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("keys",), "ACTION"),
        (("keys", "create"), "--tenant"),
        (("keys", "create", "--tenant", "a b"), "'a b' is no name of a tenant"),
        (("keys", "create", "--tenant", ""), "'' is no name of a tenant"),
        (("keys", "create", "--tenant", "a", "--label", "x\ny"), "printable"),
        (("limits", "set", "--tenant", "a", "--max-running", "0"), "'0' is no limit"),
        (("limits", "set", "--tenant", "a", "--per-minute", "many"), "'many' is no limit"),
        (("limits", "set", "--tenant", "a", "--weight", "101"), "'101' is no weight"),
    ],
)
def test_a_wrong_command_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    place = ["--data-dir", str(tmp_path)] if len(words) > 1 else []
    assert said in Shell(place, "", capsys).refusal(*words, parser=True)


def test_a_database_that_cannot_be_opened_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    said = Shell(["--data-dir", "/proc/nowhere"], "", capsys).refusal("keys", "list", code=3)
    assert "/proc/nowhere/jobs.sqlite cannot be used" in said
    assert "--data-dir" in said


def test_a_password_is_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    document = yaml.safe_load(CONFIG_PATH.read_text())
    url = "postgresql://magicvideo:s3cret@127.0.0.1:1/magicvideo"
    monkeypatch.setenv("OURS", url)
    document["applications"][0]["args"]["storage"] = {"database_url": "env:OURS"}
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(document))
    said = Shell(["--cluster", "--config", str(tmp_path / "serve.yaml")], "", capsys).refusal("keys", "list", code=3)
    assert "magicvideo:***@127.0.0.1:1/magicvideo cannot be used" in said
    assert "s3cret" not in said


def test_the_journal_is_backed_up_and_put_back(shell: Shell, tmp_path: Path) -> None:
    shell.run("limits", "set", "--tenant", "studio", "--max-queued", "5")
    file = tmp_path / "journal.gz"
    code, out, _ = shell.run("backup", str(file))
    assert (code, "holds the 1 rows of" in out[0]) == (0, True)
    assert "an empty one alone" in shell.refusal("restore", str(file))
    assert "There is no folder" in shell.refusal("backup", str(tmp_path / "no" / "journal.gz"))
    with opened(shell.url) as database, database.write() as connection:
        connection.execute(tenants.delete())
    code, out, _ = shell.run("restore", str(file))
    assert (code, "has the 1 rows of" in out[0]) == (0, True)
    with opened(shell.url) as database:
        assert LimitBook(database).all()["studio"].max_queued == 5
