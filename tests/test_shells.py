"""Every command as a user types it: what is wrong is one sentence and a code, and a reader that leaves is no error."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow

MISSING = "cannot be read (No such file or directory)"
PLAN = "cluster plan --rate 1/h --p95 100000"
WRONG = [
    ("stages a -o out.gif", 2, "out.gif ends in .gif, and what is written is .mp4"),
    ("stages.training v2v --data missing.jsonl --out mine", 2, f"missing.jsonl {MISSING}"),
    ("stages.training refl --data missing.txt --out mine", 2, f"missing.txt {MISSING}"),
    ("stages.training i2v --data m.jsonl --out file/x", 2, "file is a file, so there can be no folder file/x"),
    ("stages.training vfi --videos nowhere", 2, "There is no folder nowhere"),
    ("stages.training --start nowhere", 2, "--start is nowhere, which has no folder"),
    ("stages.training manifest . --out absent/m.jsonl", 2, "There is no folder absent for m.jsonl"),
    ("stages.local.gallery file/x", 2, "file is a file"),
    ("deployments keys list --config missing.yaml", 2, f"missing.yaml {MISSING}"),
    ("deployments keys list --config latin.yaml", 2, "latin.yaml is not UTF-8"),
    ("deployments serve --data-dir file", 2, "file is a file, so there can be no folder file"),
    ("deployments restore .", 2, ". cannot be read (Is a directory)"),
    ("deployments backup absent/journal.gz", 2, "There is no folder absent for journal.gz"),
    ("deployments keys list --data-dir /proc/nowhere", 3, "cannot be used"),
    ("deployments.demo a absent/fox.mp4", 2, "There is no folder absent"),
    ("cluster plan --rate x --p95 1", 2, "--rate is 'x'"),
    ("cluster plan --rate 1/s --p95 1 --pools latin.yaml", 2, "latin.yaml is not UTF-8"),
    (f"{PLAN} --write absent/a.yaml", 2, "There is no folder absent"),
    ("cluster profile --out absent/a.json", 2, "There is no folder absent"),
    ("cluster render --pools missing.yaml --out file/x", 2, "file is a file"),
    ("cluster experiment burst --out file/x", 2, "file is a file"),
    ("cluster experiment latin.yaml", 2, "latin.yaml is not UTF-8"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("")
    (tmp_path / "m.jsonl").write_text("{}")
    (tmp_path / "latin.yaml").write_bytes(b"title: caf\xe9\n")
    return tmp_path


def start(folder: Path, words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *words.split()],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


FORKS = """
import json, os, runpy, sys, traceback
import cluster.experiments.command, deployments.box, deployments.tenants.commands, stages.local.pipeline
for number, words in enumerate(json.loads(sys.argv[1])):
    if not (child := os.fork()):
        for file in (1, 2):
            os.dup2(os.open(f"{sys.argv[2]}/{number}.{file}", os.O_CREAT | os.O_WRONLY), file)
        break
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, json.dumps(sorted(os.listdir("."))), flush=True)
else:
    sys.exit()
module, *sys.argv[1:] = words.split()
code = 0
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
except SystemExit as ended:
    code = ended.code or 0
except BaseException:
    traceback.print_exc()
    code = 1
sys.stdout.flush(), sys.stderr.flush()
os._exit(code)
"""  # as `python -m` does it, but that nobody takes apart what was loaded


def end(folder: Path, said: Path, commands: Sequence[str]) -> Iterator[tuple[int, str, str, list[str]]]:
    """Of each command, one after the other: its exit code, what it says on both, and what the folder holds then.

    Each is a process of its own, forked from one that has loaded what takes seconds.
    """
    said.mkdir()
    command = [sys.executable, "-c", FORKS, json.dumps(commands), str(said)]
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count("\n")) == (0, len(commands)), done.stderr
    for number, line in enumerate(done.stdout.splitlines()):
        code, _, names = line.partition(" ")
        out, err = ((said / f"{number}.{file}").read_text() for file in (1, 2))
        yield int(code), out, err, json.loads(names)


def test_what_is_wrong_is_one_sentence_and_a_code_and_debug_shows_where(folder: Path, tmp_path: Path) -> None:
    before = sorted([*os.listdir(folder), "said"])
    debug = ("cluster plan --rate x --p95 1", "stages a -o out.gif", "deployments keys list --config missing")
    commands = [*(words for words, _, _ in WRONG), *(f"{words} --debug" for words in debug)]
    ended = end(folder, tmp_path / "said", commands)
    for (words, code, sentence), (found, out, err, names) in zip(WRONG, ended, strict=False):
        assert (found, out) == (code, ""), (words, err)
        assert err.startswith("Error: "), (words, err)
        assert err.count("\n") == 1, (words, err)
        assert sentence in err, words
        assert [name for name in names if name != "data"] == before, words  # the laptop's journal
    for found, _, err, _ in ended:
        assert found == 2
        assert "Traceback" in err


@pytest.mark.parametrize("words", ["stages weights", f"{PLAN} --json", "cluster experiment bottleneck --quick"])
def test_a_reader_that_leaves_is_no_error(folder: Path, words: str) -> None:
    process = start(folder, words)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    assert "Traceback" not in said
    assert "Broken" not in said
    assert process.wait(120) == 141, said


def test_ctrl_c_while_it_loads_is_quiet(folder: Path) -> None:
    (folder / "mine").mkdir()
    (folder / "p.txt").write_text("a fox\n")
    process = start(folder, "stages.training refl --data p.txt --out mine --steps 100000")
    deadline = time.monotonic() + 120
    maps = Path(f"/proc/{process.pid}/maps")
    while "libtorch" not in maps.read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err.splitlines()[-1]) == (
        130,
        "Interrupted; started again, it goes on from the last checkpoint.",
    )
    assert "Traceback" not in err
