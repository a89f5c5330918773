"""Which stage goes to which GPU: a table of machines, what holds for every one, and what is said of too little."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations_with_replacement

import pytest

from deployments.errors import ConfigError
from deployments.settings.placement import Gpu, Need, Placement, needs_of, place
from stages.speed import Offload
from stages.types import STAGE_NAMES, StageName


def need(none: float, model: float, layers: float, peak: float, load: float, steps: int) -> Need:
    moved: dict[Offload, float] = {"none": 0.0, "model": none if model < none else 0.0}
    moved["layers"] = none * steps if layers < none else 0.0
    return Need({"none": none, "model": model, "layers": layers}, peak, moved, none, load)


# Round figures of the paper's size: alone 9, 13, 18 and 2 GiB; V2V computes most, then I2V.
PAPER: dict[StageName, Need] = {
    "t2i": need(6.5, 4.8, 0.4, 1.5, load=1.0, steps=30),
    "i2v": need(8.0, 5.0, 2.5, 4.0, load=8.0, steps=25),
    "v2v": need(7.0, 4.0, 2.5, 10.0, load=14.0, steps=20),
    "vfi": need(0.2, 0.2, 0.2, 0.8, load=2.0, steps=1),
}
# Models that fill a GPU each.
LARGE: dict[StageName, Need] = {
    "t2i": need(31.0, 22.0, 0.5, 2.0, load=1.0, steps=4),
    "i2v": need(64.0, 27.0, 2.0, 8.0, load=40.0, steps=40),
    "v2v": need(14.0, 11.0, 2.0, 12.0, load=10.0, steps=30),
    "vfi": need(0.2, 0.2, 0.2, 0.8, load=1.0, steps=1),
}
BOTH = {"paper": PAPER, "large": LARGE}


def machine(*gib: float) -> list[Gpu]:
    return [Gpu(index, size, "GPU", size) for index, size in enumerate(gib)]


def shown(placement: Placement) -> str:
    """As in "t2i:0 i2v:0/model v2v:0+i2v vfi:1"; replicas that Ray places as a number."""
    words = []
    for name, found in placement.places.items():
        where = f"x{len(found.gpus)}" if found.chosen_by_ray else ",".join(map(str, found.gpus))
        offload = "" if found.offload == "none" else f"/{found.offload}"
        words.append(f"{name}:{where}{offload}{f'+{found.lives_with}' if found.lives_with else ''}")
    return " ".join(words)


@pytest.mark.parametrize(
    ("preset", "gib", "where", "share"),
    [
        ("paper", (24,), "t2i:0/layers i2v:0/model v2v:0/model+i2v vfi:0", 0.25),
        ("paper", (40,), "t2i:0 i2v:0 v2v:0+i2v vfi:0", 0.25),
        ("paper", (80,), "t2i:0 i2v:0 v2v:0 vfi:0", 0.25),
        ("paper", (24, 24), "t2i:0 i2v:0 v2v:1 vfi:0", 0.3333),
        ("paper", (80, 80), "t2i:0 i2v:0 v2v:1 vfi:0", 0.3333),
        ("paper", (80, 80, 80, 80), "t2i:0 i2v:1 v2v:2 vfi:3", 1.0),
        ("paper", (80,) * 8, "t2i:x1 i2v:x2 v2v:x4 vfi:x1", 1.0),
        ("paper", (24, 80), "t2i:0 i2v:0 v2v:1 vfi:0", 0.3333),
        ("paper", (24, 24, 80, 24, 24), "t2i:x1 i2v:x1 v2v:x2 vfi:x1", 1.0),
        ("large", (24,), "t2i:0/layers i2v:0/layers v2v:0/layers+i2v vfi:0", 0.25),
        ("large", (80,), "t2i:0 i2v:0/model v2v:0/model+i2v vfi:0", 0.25),
        ("large", (80, 80), "t2i:0 i2v:1 v2v:0 vfi:0", 0.3333),
        ("large", (80,) * 4, "t2i:0 i2v:1 v2v:2 vfi:3", 1.0),
        ("large", (80,) * 8, "t2i:x1 i2v:x5 v2v:x1 vfi:x1", 1.0),
        ("large", (24,) * 8, "t2i:x1/layers i2v:x1/layers v2v:x1/model vfi:x1", 1.0),
        ("large", (24, 80, 24, 24, 24), "t2i:1 i2v:1/model v2v:0/model vfi:2", 0.5),
    ],
)
def test_the_table(preset: str, gib: Sequence[float], where: str, share: float) -> None:
    found = place(machine(*gib), BOTH[preset], preset)
    assert (shown(found), found.share) == (where, share)
    _holds(found, machine(*gib))


def _holds(found: Placement, gpus: Sequence[Gpu]) -> None:
    """What no placement breaks: nothing is too full, every stage is somewhere, and Ray's counts have room."""
    assert tuple(found.places) == STAGE_NAMES
    for gpu in gpus:
        assert found.used_gib(gpu.index) <= gpu.gib
    deployments = [one for one in found.places.values() if one.lives_with is None]
    assert sum(len(one.gpus) for one in deployments) * found.share <= len(gpus)
    assert all(len(one.gpus) == 1 or one.chosen_by_ray for one in deployments)
    home = found.places["i2v"]
    for one in found.places.values():
        if one.lives_with is not None:
            assert (one.lives_with, one.gpus, one.offload) == ("i2v", home.gpus, home.offload)
    used = {gpu for one in found.places.values() for gpu in one.gpus}
    assert sorted((*used, *found.unused)) == [gpu.index for gpu in gpus]


@pytest.mark.parametrize("preset", BOTH)
def test_every_small_machine_is_used_within_its_memory_or_refused(preset: str) -> None:
    judged, refused = 0, list[str]()
    for count in (1, 2, 3):
        for gib in combinations_with_replacement((8, 12, 16, 24, 48, 80, 141), count):
            judged += 1
            try:
                found = place(machine(*gib), BOTH[preset], preset)
            except ConfigError as error:
                refused.append(str(error))
            else:
                _holds(found, machine(*gib))
    assert 0 < len(refused) < judged
    assert all("--preset tiny" in said for said in refused)


def test_more_memory_never_moves_more_weights() -> None:
    before = float("inf")
    for gib in (20, 24, 28, 32, 40, 48, 80):
        found = place(machine(gib), PAPER, "paper")
        moved = sum(PAPER[name].moved[one.offload] for name, one in found.places.items())
        assert moved <= before
        before = moved
    assert before == 0


def test_what_waits_in_main_memory_is_counted() -> None:
    found = place(machine(24), PAPER, "paper")
    waiting = [PAPER[name].weights for name, one in found.places.items() if one.offload != "none"]
    assert waiting
    assert found.main_gib == sum(waiting)
    assert place(machine(80), PAPER, "paper").main_gib == 0


def test_too_little_for_one_stage_says_both_values() -> None:
    with pytest.raises(ConfigError) as refused:
        place([Gpu(1, 7.5, "NVIDIA L4", 22.5)], PAPER, "paper")
    said = str(refused.value)
    assert said.startswith("Stage v2v of preset paper needs 13.5 GiB of a GPU even layer by layer, and ")
    assert "GPU 1 (NVIDIA L4, 7.5 GiB free, of 22.5) is the largest given; end what uses their memory" in said


def test_too_little_for_all_says_both_values() -> None:
    with pytest.raises(ConfigError) as refused:
        place(machine(14), PAPER, "paper")
    assert str(refused.value).startswith(
        "The stages of preset paper need 2.9 + 7.5 + 13.5 + 2.0 GiB of GPUs even layer by layer, and free are 14.0 "
        "GiB, on GPU 0; end what uses their memory, give more with --gpus, take a smaller preset (--preset tiny needs "
    )


def test_a_line_says_what_stands_on_a_gpu() -> None:
    gpus = [*machine(40), Gpu(1, 0.5, "small", 0.5)]
    assert place(gpus, PAPER, "paper").lines(gpus) == [
        "  GPU 0 (GPU, 40.0 GiB free): 37.0 GiB: t2i 9.0, i2v 26.0, v2v in turns with i2v, vfi 2.0",
        "  GPU 1 (small, 0.5 GiB free): not used",
    ]


def test_needs_are_read_from_what_cost_counts() -> None:
    gib = 2**30
    cost = {
        "resident_if": {"none": 4 * gib, "model": 2 * gib, "layers": gib},
        "activation_peak_bytes": 3 * gib,
        "weight_bytes": 4 * gib,
        "flops": 200,
        "step_flops": 10,
        "calls": 2,
    }
    still = {**cost, "resident_if": dict.fromkeys(("none", "model", "layers"), 4 * gib), "step_flops": 0}
    needs = needs_of({"overhead_bytes": gib, "stages": {**dict.fromkeys(STAGE_NAMES, cost), "vfi": still}})
    assert needs["v2v"] == Need(
        {"none": 4.0, "model": 2.0, "layers": 1.0}, 3.0, {"none": 0.0, "model": 8.0, "layers": 80.0}, 4.0, 200, 1.0
    )
    assert needs["vfi"] == replace(
        needs["v2v"],
        resident=dict.fromkeys(("none", "model", "layers"), 4.0),
        moved=dict.fromkeys(("none", "model", "layers"), 0.0),
    )
