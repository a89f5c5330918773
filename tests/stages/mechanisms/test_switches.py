"""Every switch of a preset reaches the parameters that the stages are called with."""

from dataclasses import replace
from typing import Any

import pytest

from stages.presets import TINY, Control, Guide, Prior, Windows, plan

SWITCHES: list[tuple[str, Any, dict[str, str]]] = [
    ("motion", False, {"i2v": "motion", "v2v": "motion"}),
    ("image_mode", "bypass", {"i2v": "image_mode", "v2v": "image_mode"}),
    ("prior", Prior(2.5, 1.0, 0.3), {"i2v": "prior"}),
    ("i2v_guide", Guide(0.3, (Control("control", scale=0.2),)), {"i2v": "guide"}),
    ("v2v_guide", Guide(0.4, ()), {"v2v": "guide"}),
    ("strength", 0.33, {"v2v": "strength"}),
    ("i2v_windows", Windows(7, 2), {"i2v": "windows"}),
    ("v2v_windows", Windows(6, 1), {"v2v": "windows"}),
]


@pytest.mark.parametrize(("switch", "value", "reaches"), SWITCHES, ids=[name for name, _, _ in SWITCHES])
def test_it_reaches_the_stages(switch: str, value: Any, reaches: dict[str, str]) -> None:
    assert getattr(TINY, switch) != value
    planned = plan(replace(TINY, **{switch: value}), "a fox")
    for stage, name in reaches.items():
        assert getattr(planned[stage], name) == value  # type: ignore[index]
    untouched = plan(TINY, "a fox")
    assert all(planned[stage] == untouched[stage] for stage in ("t2i", "i2v", "v2v") if stage not in reaches)
