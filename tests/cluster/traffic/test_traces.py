"""Traces come out of their seeds again, have the rates they promise, and are refused where they are broken."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cluster.traffic.traces import (
    Arrival,
    Trace,
    TraceError,
    TraceSpec,
    kept_specs,
    kept_traces,
    make_trace,
    read_trace,
)

POISSON = TraceSpec("p", "poisson", 20_000.0, seed=3, rate_per_s=0.5)


def test_a_seed_gives_the_same_trace_and_another_one_another() -> None:
    assert make_trace(POISSON) == make_trace(POISSON)
    assert make_trace(POISSON).arrivals != make_trace(replace(POISSON, seed=4)).arrivals


def test_poisson_has_its_rate_and_exponential_gaps() -> None:
    times = np.array([arrival.time_s for arrival in make_trace(POISSON).arrivals])
    gaps = np.diff(times)
    assert gaps.mean() == pytest.approx(2.0, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.05)


def test_bursts_come_on_top_of_the_base_rate() -> None:
    spec = TraceSpec("b", "bursts", 50_000.0, seed=1, rate_per_s=0.01, burst_size=50, burst_s=5, pause_s=500)
    times = np.array([arrival.time_s for arrival in make_trace(spec).arrivals])
    assert len(times) == pytest.approx(50_000 * 0.01 + 50_000 / 505 * 50, rel=0.15)
    assert (np.diff(times) < 1).mean() > 0.8


def test_a_wave_is_low_at_its_start_and_high_half_a_period_later() -> None:
    spec = TraceSpec("d", "diurnal", 36_000.0, seed=1, rate_per_s=0.2, swing=0.9, period_s=3600)
    phases = np.array([arrival.time_s % 3600 for arrival in make_trace(spec).arrivals])
    low, high = ((phases < 450) | (phases > 3150)).sum(), ((phases > 1350) & (phases < 2250)).sum()
    assert high > 8 * low
    assert len(phases) == pytest.approx(7200, rel=0.05)


def test_some_cancel_later_than_they_came_and_kinds_have_their_shares() -> None:
    spec = replace(POISSON, cancel_share=0.3, kinds={"long": 1.0, "short": 3.0})
    arrivals = make_trace(spec).arrivals
    gone = [one for one in arrivals if one.cancel_s is not None]
    assert len(gone) / len(arrivals) == pytest.approx(0.3, abs=0.02)
    assert sum(one.kind == "long" for one in arrivals) / len(arrivals) == pytest.approx(0.25, abs=0.02)


def test_there_are_ten_kept_traces_with_arrivals_and_names_of_their_own() -> None:
    traces = kept_traces()
    assert len({trace.name for trace in traces}) == len(traces) == 10
    assert all(trace.arrivals for trace in traces)
    assert {spec.kind for spec in kept_specs()} == {"poisson", "bursts", "diurnal", "recorded"}


def test_a_recording_is_read_as_it_is_written_and_can_be_stretched(tmp_path: Path) -> None:
    arrivals = (Arrival(0.5), Arrival(2.0, "long"), Arrival(2.0, "", 7.25))
    (tmp_path / "r.csv").write_text("time_s,kind,cancel_s\n0.5,,\n2,long,\n2.0,,7.25\n")
    assert read_trace(tmp_path / "r.csv").arrivals == arrivals
    spec = TraceSpec("twice", "recorded", 1.0, file="r.csv", stretch=2.0)
    assert make_trace(spec, tmp_path).arrivals == (Arrival(1.0), Arrival(4.0, "long"), Arrival(4.0, "", 14.5))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("time_s\n1\n\n,\n", "hole"),
        ("time_s,kind\n1,a\n,b\n3,c\n", "hole: line 3 has no time_s"),
        ("time_s\n1\n900\n", "hole: nothing arrives between 1 s and 900 s"),
        ("time_s\n5\n4\n", "goes backwards: arrival 1 is at 4 s, behind one at 5 s"),
        ("time_s\n-1\n", "begins at 0 s, and its first arrival is at -1 s"),
        ("time_s\n1e15\n", r"spans 1e\+15 s, at most 3\.16224e\+07"),
        ("time_s\nsoon\n", "line 2: time_s is 'soon'"),
        ("time_s\nnan\n", "no number of seconds"),
        ("time_s,cancel_s\n5,4\n", "cancels arrival 0 at 4 s, before it arrives"),
        ("when\n1\n", "needs a header with the column time_s"),
        ("", "at least one arrival"),
    ],
)
def test_a_broken_recording_is_refused_with_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(TraceError, match=words):
        read_trace(path, max_gap_s=600)


def test_a_missing_file_and_senseless_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(tmp_path / "none.csv")
    for changes, words in (
        ({"rate_per_s": -1.0}, "rate_per_s is -1"),
        ({"swing": 1.5}, "swing is 1.5"),
        ({"span_s": 0.0}, "span_s is 0"),
        ({"kind": "weekly"}, "kind is 'weekly'"),
        ({"kind": "recorded"}, "names no file"),
        ({"burst_s": 0.0}, "times must be above 0"),
    ):
        with pytest.raises(TraceError, match=words):
            make_trace(replace(POISSON, **changes))
    with pytest.raises(TraceError, match="spans 1 s, but its last arrival is at 2 s"):
        Trace("t", (Arrival(2.0),), 1.0)
    (tmp_path / "x.json").write_text('[{"name": "x", "colour": 3}]')
    with pytest.raises(TraceError, match="holds no trace specifications"):
        kept_specs(tmp_path / "x.json")
