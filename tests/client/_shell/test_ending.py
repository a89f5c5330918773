"""How commands end: the code says whose fault it was, and nobody is shown a traceback who did not ask."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from client._shell.ending import end, take_debug

ROOT = Path(__file__).resolve().parents[3]


def ending(error: BaseException, *words: str) -> int:
    def command(given: list[str]) -> int:
        raise error

    return end(command, words, codes={LookupError: 1})


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (LookupError("no fox"), 1, "Error: no fox"),
        (FileNotFoundError(2, "No such file or directory", "fox"), 3, "Error: fox: No such file or directory."),
        (RuntimeError("two\nlines"), 3, "Error: RuntimeError: two lines; --debug shows where."),
        (KeyboardInterrupt(), 130, "Interrupted."),
        (LookupError("\x1b[31m"), 1, "Error:  [31m"),
    ],
)
def test_an_error_is_one_sentence(
    error: BaseException, code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ending(error) == code
    assert capsys.readouterr().err == sentence + "\n"
    assert ending(error, "--debug") == code
    assert "Traceback" in capsys.readouterr().err


def test_debug_stands_anywhere_but_behind_the_end_of_options() -> None:
    assert take_debug(["a", "--debug", "b"]) == (["a", "b"], True)
    assert take_debug(["--", "--debug"]) == (["--", "--debug"], False)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_error(closed: str) -> None:
    code = "from client._shell.ending import end; exit(end(lambda words: print('x') or 0))"
    command = ["bash", "-c", f"'{sys.executable}' -c \"{code}\" {closed}"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_told_to_stop_it_leaves_nothing_half_made(tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "import signal, sys, time\n"
        "from client._shell.ending import unwinding; from client._shell.outputs import written\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever started the tests may have it ignored, as nohup does\n"
        "with unwinding(), written(sys.argv[1]): print('ready', flush=True); time.sleep(100)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "fox.mp4")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.wait(120) == 128 + number
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_went_away_is_no_error() -> None:
    code = "from client._shell.ending import end; exit(end(lambda words: print('x' * 999_999) or 0))"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait(120) == 128 + signal.SIGPIPE
    process.stderr.close()
