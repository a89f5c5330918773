"""The rules to compare with: Ray Serve's, InferLine's tuner, the allocation of Xenna, a fixed number."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.policy.look_ahead import Fixed, ServeDefault, Throughput, Tuner
from cluster.policy.types import Memory, Policy, Snapshot, StageNow, State
from tests.cluster.policy.test_policy import NAMES, SLACK, pipeline, snapshots

published = st.one_of(st.builds(Tuner, utilisation=st.floats(0.1, 1)), st.just(Throughput()))


@SLACK
@given(st.lists(snapshots(), min_size=1, max_size=6), published, st.booleans())
def test_so_do_the_published_rules(steps: list[Snapshot], policy: Policy, limited: bool) -> None:
    state: State = {}
    for number, now in enumerate(steps):
        seen = now if limited else replace(now, budget_gpus=None)
        decision = policy.decide(replace(seen, now_s=200.0 * number, arrived=40 * number), state)
        state = decision.state
        for stage in now.stages:
            assert stage.min_replicas <= decision.targets[stage.name] <= stage.max_replicas
        held = sum(decision.targets[stage.name] + stage.stopping for stage in now.stages)
        assert not limited or held <= (now.budget_gpus or 0.0) + 1e-6


def test_the_tuner_goes_up_with_a_burst_at_once_and_down_once_it_is_past() -> None:
    policy, state, targets = Tuner(utilisation=1.0), dict[str, Memory](), list[int]()
    for step in range(120):
        stages = tuple(replace(own, target=targets[-1] if targets and own.name == "v2v" else 1) for own in pipeline())
        now = Snapshot(10.0 * step, stages, arrived=min(step, 6) * 5)  # thirty in a minute, then none
        decision = policy.decide(now, state)
        state = dict(decision.state)
        targets.append(decision.targets["v2v"])
    assert max(targets[:12]) == math.ceil(30 / 78 * 90)  # in a window of the pipeline's own 78 s
    assert targets[-1] == 0


def test_throughput_is_that_of_the_slowest_stage_and_all_gpus_are_used() -> None:
    now = Snapshot(0.0, pipeline(), budget_gpus=37.0)
    targets = Throughput().decide(now, {}).targets
    assert sum(targets.values()) == 37
    assert targets == {"t2i": 1, "i2v": 10, "v2v": 23, "vfi": 3}  # 4, 40, 90 and 12 s


def serve(
    now_s: float, calls: int, *, ready: int, target: int, policy: ServeDefault, state: State
) -> tuple[int, State]:
    stage = StageNow("a", 1.0, running=calls, ready=ready, target=target, min_replicas=0, max_replicas=20)
    decision = policy.decide(Snapshot(now_s, (stage,)), state)
    return decision.targets["a"], decision.state


def test_serve_default_waits_for_its_delays_as_ray_does() -> None:
    policy = ServeDefault(upscale_delay_s=30, downscale_delay_s=100, look_back_s=1)
    state: State = {}
    targets = []
    for now in (0, 10, 29, 30):
        target, state = serve(now, 10, ready=2, target=2, policy=policy, state=state)
        targets.append(target)
    assert targets == [2, 2, 2, 5]
    for now, expected in ((40, 5), (100, 5), (139, 5), (140, 1)):
        target, state = serve(now, 2, ready=5, target=5, policy=policy, state=state)
        assert target == expected
    assert serve(150, 0, ready=1, target=1, policy=policy, state=state)[0] == 1
    assert serve(0, 3, ready=0, target=0, policy=policy, state={})[0] == 1  # from zero at once, one


def test_serve_default_goes_to_zero_from_one_only_and_averages() -> None:
    policy = ServeDefault(upscale_delay_s=0, downscale_delay_s=0, look_back_s=10)
    assert serve(0, 0, ready=4, target=4, policy=policy, state={})[0] == 1
    assert serve(0, 0, ready=1, target=1, policy=policy, state={})[0] == 0
    _, state = serve(0, 0, ready=4, target=4, policy=policy, state={})
    assert serve(5, 20, ready=4, target=4, policy=policy, state=state)[0] == 5  # half of 20, two for each
    assert serve(11, 20, ready=4, target=4, policy=policy, state=state)[0] == 10  # the first sample is too old


def test_serve_default_agrees_with_ray_s_own_rule() -> None:
    """The arithmetic of ray 2.60, where it is installed."""
    rule = pytest.importorskip("ray.serve.autoscaling_policy")
    config = pytest.importorskip("ray.serve.config").AutoscalingConfig
    for factor in (0.5, 1.0, 2.0):
        ray_config = config(
            upscaling_factor=factor, downscaling_factor=factor, target_ongoing_requests=2, max_replicas=99
        )
        ours = ServeDefault(upscaling_factor=factor, downscaling_factor=factor)
        for current in range(1, 9):
            for calls in range(40):
                expected = rule._apply_scaling_factors(calls / 2, current, ray_config)
                assert ours._step(calls / 2, current) == expected, (factor, current, calls)


def test_fixed_leaves_everything_or_does_as_told() -> None:
    assert Fixed().decide(Snapshot(0.0, pipeline()), {}).targets == dict.fromkeys(NAMES, 1)
    assert Fixed({"v2v": 7}).decide(Snapshot(0.0, pipeline()), {}).targets["v2v"] == 7
