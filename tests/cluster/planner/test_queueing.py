"""Formulas against what is known of queues."""

import math

import pytest

from cluster.planner.queueing import Station, erlang_c, percentile, sojourn, wait


def test_one_exponential_server_waits_as_the_textbook_says() -> None:
    station = Station(rate=0.8, service_s=1.0, servers=1, cv=1.0)
    mean, variance = wait(station)
    assert mean == pytest.approx(0.8 / 0.2)  # rho / (mu - lambda)
    assert variance == pytest.approx(0.8 * (2 - 0.8) / 0.2**2)


def test_erlangs_c_of_many_servers() -> None:
    assert erlang_c(2.0, 3) == pytest.approx(4 / 9)
    assert erlang_c(500.0, 1000) == pytest.approx(0.0, abs=1e-9)
    assert erlang_c(5.0, 5) == 1.0


def test_a_time_without_spread_is_its_own_percentile() -> None:
    assert percentile([Station(0.0, 3.0, 1), Station(0.0, 4.0, 1)]) == 7.0


def test_an_overloaded_stage_never_ends() -> None:
    assert math.isinf(percentile([Station(2.0, 1.0, 1)]))


def test_more_servers_are_never_slower() -> None:
    times = [percentile([Station(1.0, 4.0, servers, 0.3, parts=2)]) for servers in range(5, 40)]
    assert times == sorted(times, reverse=True)


def test_a_job_of_two_parts_uses_two_idle_servers() -> None:
    assert sojourn([Station(0.001, 4.0, 3, parts=2)])[0] == pytest.approx(2.0, abs=0.01)
