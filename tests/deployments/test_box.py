"""One machine with GPUs: which are found and taken, and what is said before anything is loaded."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.__main__ import main
from deployments.box import Box, choose, find_gpus
from deployments.errors import ConfigError, StartError
from deployments.settings.placement import Gpu, Placement

L4 = "{0}, GPU-aaaa-{0}, NVIDIA L4, 23034, {1}"


def smi(folder: Path, monkeypatch: pytest.MonkeyPatch, said: str, code: int = 0) -> None:
    """An `nvidia-smi` that says this, alone on the PATH."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!{sys.executable}\nimport sys\nprint({said!r})\nsys.exit({code})\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@pytest.fixture(autouse=True)
def _no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    handlers = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    yield
    for name, handler in handlers.items():
        signal.signal(name, handler)


def serve(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """What the command says, and its exit code; it does not start."""
    code = main(["serve", "--data-dir", str(folder / "data"), *words])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_gpus_are_those_of_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(tmp_path, monkeypatch, "\n".join([L4.format(0, 22528), L4.format(1, 2048)]))
    [(first, uuid), (second, _)] = find_gpus()
    assert (first.index, first.gib, first.name, uuid) == (0, 22.0, "NVIDIA L4", "GPU-aaaa-0")
    assert str(second) == "GPU 1 (NVIDIA L4, 2.0 GiB free, of 22.5)"


@pytest.mark.parametrize(
    ("said", "code", "sentence"),
    [
        (
            "0, GPU-a, NVIDIA GB10, [N/A], [N/A]",
            0,
            "nvidia-smi says '0, GPU-a, NVIDIA GB10, [N/A], [N/A]' in the place",
        ),
        (
            "NVIDIA-SMI has failed because of the driver.",
            9,
            "nvidia-smi fails: NVIDIA-SMI has failed because of the dr",
        ),
    ],
)
def test_what_nvidia_smi_should_not_say_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, code: int, sentence: str
) -> None:
    smi(tmp_path, monkeypatch, said, code)
    with pytest.raises(StartError, match=r"^") as refused:
        find_gpus()
    assert str(refused.value).startswith(sentence)


def test_no_devices_are_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(tmp_path, monkeypatch, "No devices were found", 6)
    assert find_gpus() == ()


FOUND = tuple((Gpu(index, 80.0, "NVIDIA H100", 80.0), f"GPU-{index}") for index in range(4))


@pytest.mark.parametrize(
    ("wanted", "visible", "taken"),
    [
        ("auto", None, [0, 1, 2, 3]),
        ("auto", "2,GPU-0", [0, 2]),
        ("3,1", None, [1, 3]),
        ("0", "2", [0]),
    ],
)
def test_gpus_are_chosen(monkeypatch: pytest.MonkeyPatch, wanted: str, visible: str | None, taken: list[int]) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.index for gpu in choose(FOUND, wanted, "paper")] == taken


@pytest.mark.parametrize(
    ("wanted", "visible", "sentence"),
    [
        ("0,5", None, "--gpus names GPU 5, and this machine has GPU 0, 1, 2, 3; name some of those, or auto."),
        ("1,1", None, "--gpus is 1,1, which names a GPU twice; name each once."),
        ("all", None, "--gpus is 'all'; it must be auto, or indices like 0,1."),
        ("auto", "7", "CUDA_VISIBLE_DEVICES is '7', and this machine has GPU 0, 1, 2, 3; unset it, or use --gpus."),
    ],
)
def test_a_gpu_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, wanted: str, visible: str | None, sentence: str
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(ConfigError) as refused:
        choose(FOUND, wanted, "paper")
    assert str(refused.value) == sentence


@pytest.mark.parametrize("words", [["--preset", "paper"], ["--preset", "modern", "--plan"], ["--gpus", "auto"]])
def test_without_a_gpu_tiny_is_offered(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    code, said = serve(tmp_path, capsys, *words)
    assert code == 2
    preset = words[1] if words[0] == "--preset" else "tiny"
    assert said == (
        f"Error: This machine has no GPU that nvidia-smi shows, and preset {preset} needs one; take --preset tiny, "
        "which runs on the CPU, or the GPUs of a cluster with --cluster.\n"
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--preset", "huge"], "--preset: Unknown preset 'huge'; choose one of: tiny, paper"),
        (["--cluster", "--preset", "paper"], "; leave out --preset paper."),
        (["--cluster", "--gpus", "0"], "; leave out --gpus 0."),
        (["--cluster", "--plan"], "; leave out --plan."),
        (["--laptop", "--preset", "paper"], "--laptop uses no GPU, and --preset paper asks for one; leave out one"),
        (["--preset", "paper", "--host", "0.0.0.0"], "holds no API key; create one with `python -m deployments keys"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    code, said = serve(tmp_path, capsys, *words)
    assert (code, said.count("\n")) == (2, 1)
    assert sentence in said


def test_a_plan_on_the_cpu_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = serve(tmp_path, capsys, "--plan", "--threads", "3")
    assert (code, said) == (0, "Preset tiny on the CPU, 3 threads a stage.\n")


@pytest.mark.slow
def test_a_plan_says_what_goes_where_and_who_may_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    smi(tmp_path, monkeypatch, "\n".join(f"{index}, GPU-b{index}, NVIDIA L40S, 46068, 45056" for index in (0, 1)))
    code, said = serve(tmp_path, capsys, "--preset", "paper", "--plan", "--port", "8123")
    assert code == 0
    lines = [line for line in said.splitlines() if line != "Counting what preset paper needs ..."]
    assert lines[0] == "Preset paper on 2 GPUs:"
    assert all(
        line.startswith(f"  GPU {index} (NVIDIA L40S, 44.0 GiB free): ") for index, line in enumerate(lines[1:3])
    )
    assert all(stage in lines[1] + lines[2] for stage in ("t2i", "i2v", "v2v", "vfi"))
    assert lines[-1] == (
        "  127.0.0.1:8123 answers this machine alone; for others add --host 0.0.0.0, after `python -m deployments keys "
        "create --tenant NAME`"
    )
    assert any(line.startswith("  missing weights: t2i, ") and "--preset paper --pull`" in line for line in lines)


def test_who_may_ask_is_said_of_another_address_too() -> None:
    nothing = Box("paper", (), Placement({}, 1.0), 0, ())
    assert nothing.report("0.0.0.0", 8000).splitlines()[-1] == (
        "  0.0.0.0:8000 answers every machine that has one of its API keys"
    )
