"""Digests of outputs: the same for the same, another one for anything that makes a difference."""

from dataclasses import replace

from deployments.pipeline.digests import digest_of, model_digest
from stages.presets import TINY, plan

STEPS = plan(TINY, "a fox", seed=1)


def test_a_digest_depends_on_everything_that_an_output_does() -> None:
    base = digest_of("t2i", "model", params=STEPS.t2i, seed=1)
    assert digest_of("t2i", "model", params=plan(TINY, " a fox ", seed=1).t2i, seed=1) == base
    others = [
        digest_of("i2v", "model", params=STEPS.t2i, seed=1),
        digest_of("t2i", "other", params=STEPS.t2i, seed=1),
        digest_of("t2i", "model", "input", params=STEPS.t2i, seed=1),
        digest_of("t2i", "model", params=STEPS.t2i, seed=2),
        digest_of("t2i", "model", params=plan(TINY, "a cat", seed=1).t2i, seed=1),
        digest_of("t2i", "model", params=plan(TINY, "a fox", steps=3).t2i, seed=1),
        digest_of("v2v", "model", params=STEPS.v2v, seed=1),
        digest_of("v2v", "model", params=replace(STEPS.v2v, part=1), seed=1),
    ]
    assert len({base, *others}) == 9


def test_a_preset_has_one_digest_and_no_other_preset_has_it() -> None:
    assert model_digest("tiny") == model_digest("tiny") != model_digest("paper")
