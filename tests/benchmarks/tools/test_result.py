"""The last line of a benchmark."""

import json
import math

import pytest

from benchmarks.tools.result import result


def test_the_line_is_json_with_rounded_figures(capsys: pytest.CaptureFixture[str]) -> None:
    result("speed", {"ratio": 0.123456, "requests": 60, "missing": None})
    line = capsys.readouterr().out
    assert line.startswith("RESULT ")
    assert json.loads(line.removeprefix("RESULT ")) == {
        "name": "speed",
        "figures": {"ratio": 0.1235, "requests": 60, "missing": None},
    }


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_figure_that_is_no_number_is_refused_by_name(broken: float) -> None:
    with pytest.raises(ValueError, match="ratio"):
        result("speed", {"ratio": broken})
