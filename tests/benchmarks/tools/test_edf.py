"""The ideal order on cases that can be checked by hand."""

from benchmarks.tools.edf import Task, ends


def test_a_task_alone_takes_its_seconds() -> None:
    assert ends([Task(3.0, 10.0, 5, 99.0)], 2) == [13.0]


def test_the_earlier_deadline_takes_over_at_the_next_step_and_costs_nothing() -> None:
    tasks = [Task(0.0, 10.0, 5, 99.0), Task(3.0, 4.0, 2, 9.0)]
    assert ends(tasks, 1) == [14.0, 8.0]
    assert ends([Task(0.0, 10.0, 5, 99.0, may_stop=False), tasks[1]], 1) == [10.0, 14.0]


def test_what_was_stopped_goes_on_at_the_first_free_device() -> None:
    tasks = [Task(0.0, 10.0, 5, 99.0), Task(0.0, 6.0, 1, 50.0), Task(1.0, 20.0, 1, 30.0)]
    assert ends(tasks, 2) == [14.0, 6.0, 22.0]
