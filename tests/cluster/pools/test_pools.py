"""Which stage lacks which pool, judged from plain values."""

import pytest

from cluster.pools.needs import NodeOffer, StageNeed, find_lacks
from stages.types import StageName


def need(
    stage: StageName, pool: str | None = None, gpus: float = 1.0, replicas: int = 1, cpus: float = 1.0
) -> StageNeed:
    return StageNeed(stage, {"pool": pool} if pool else {}, {"GPU": gpus, "CPU": cpus}, replicas)


def node(pool: str | None = None, gpus: float = 1.0) -> NodeOffer:
    return NodeOffer({"pool": pool} if pool else {}, {"GPU": gpus, "CPU": 16.0})


def test_nothing_lacks_where_every_pool_exists() -> None:
    assert find_lacks([need("t2i", "a"), need("i2v", "b")], [node("a"), node("b")]) == ()


def test_a_missing_pool_is_named_with_those_that_exist() -> None:
    lacks = find_lacks([need("t2i", "t2i"), need("v2v", "big")], [node("t2i"), node("small")])
    assert [lack.stage for lack in lacks] == ["v2v"]
    for part in ("v2v", "pool=big", "pool=small", "2 living nodes", "stages.v2v.pool"):
        assert part in lacks[0].sentence


def test_nodes_without_any_label_and_no_nodes_at_all() -> None:
    assert "no node carries a label pool" in find_lacks([need("t2i", "a")], [node()])[0].sentence
    assert "of 0 living nodes there is none" in find_lacks([need("t2i", "a")], [])[0].sentence


@pytest.mark.parametrize(("replicas", "lacking"), [(2, False), (3, True)])
def test_a_pool_must_hold_the_first_replicas(replicas: int, lacking: bool) -> None:
    lacks = find_lacks([need("v2v", "v", replicas=replicas)], [node("v"), node("v")])
    assert bool(lacks) is lacking
    if lacks:
        assert "3 x (1 GPU + 1 CPU)" in lacks[0].sentence
        assert "room for 2" in lacks[0].sentence


def test_stages_of_one_pool_are_judged_together() -> None:
    halves = [need("t2i", "p", 0.5), need("i2v", "p", 0.5)]
    assert find_lacks(halves, [node("p")]) == ()
    lacks = find_lacks([*halves, need("vfi", "p", 0.5)], [node("p")])
    assert [lack.stage for lack in lacks] == ["vfi"]


def test_a_share_is_of_one_gpu() -> None:
    large = need("t2i", "p", 0.7, replicas=2, cpus=0.1)
    (lack,) = find_lacks([large], [node("p")])
    assert "room for 1" in lack.sentence
    assert find_lacks([large, need("vfi", "p", 0.3, replicas=2, cpus=0.1)], [node("p", 2.0)]) == ()
    assert find_lacks([need("v2v", "p", 2.0), need("vfi", "p", 0.5)], [node("p", 2.0)])[0].stage == "vfi"


def test_nodes_of_the_fallback_will_do() -> None:
    asks = StageNeed("v2v", {"pool": "spot"}, {"GPU": 1.0}, 2, ({"pool": "sure"},))
    assert find_lacks([asks], [node("spot"), node("sure")]) == ()
    assert find_lacks([asks], [node("sure", 2.0)]) == ()
    assert [lack.stage for lack in find_lacks([asks], [node("spot"), node("other")])] == ["v2v"]


def test_fractions_that_add_up_to_a_whole_fit() -> None:
    assert find_lacks([need("t2i", gpus=0.1, replicas=10)], [node()]) == ()
