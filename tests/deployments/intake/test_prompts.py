"""Blocked terms are found however they are written, and nothing else is; a check of one's own is asked too."""

import pytest

from deployments.errors import ConfigError, InvalidRequestError
from deployments.intake.prompts import PromptCheck
from deployments.settings.reading import parse_args

TERMS = ("Kraken", "deep  sea", "c++", "café")


def refuses_owls(prompt: str, tenant: str) -> str | None:
    """A check as an operator would write it."""
    return f"tenant {tenant} may not have owls." if "owl" in prompt else None


def breaks(prompt: str, tenant: str) -> str | None:
    raise RuntimeError(f"no verdict for {tenant} on {prompt}")


@pytest.mark.parametrize(
    "prompt",
    [
        "a kraken",
        "KRAKEN!",
        "the kraken's arm",
        "a ｋｒａｋｅｎ",
        "a kra\u200bken",
        "a kra\u00adken",
        "in the Deep\n sea",
        "written in c++, neatly",
        "a cafe\u0301 at noon",
    ],
)
async def test_a_blocked_term_is_found_and_not_repeated(prompt: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        await PromptCheck(TERMS).judge("prompt", prompt, "a")
    error = refused.value
    assert (error.status, error.code, error.param) == (400, "prompt_blocked", "prompt")
    assert not any(term.split()[0].lower() in error.message.lower() for term in TERMS)


@pytest.mark.parametrize("prompt", ["a fox", "krakens", "deep blue sea", "c+", "cafes", "deepsea"])
async def test_parts_of_words_are_not_found(prompt: str) -> None:
    await PromptCheck(TERMS).judge("prompt", prompt, "a")


async def test_a_check_of_ones_own_says_why() -> None:
    check = PromptCheck((), "tests.deployments.intake.test_prompts:refuses_owls")
    await check.judge("prompt", "a fox", "studio")
    with pytest.raises(InvalidRequestError, match=r"Field prompt is refused: tenant studio may not have owls\.") as no:
        await check.judge("prompt", "an owl", "studio")
    assert no.value.code == "prompt_blocked"


async def test_a_check_that_breaks_lets_nothing_through() -> None:
    with pytest.raises(RuntimeError, match="no verdict"):
        await PromptCheck((), "tests.deployments.intake.test_prompts:breaks").judge("prompt", "a fox", "a")


@pytest.mark.parametrize(
    "path", ["nowhere_at_all:check", "deployments.intake.prompts:nothing", "deployments.intake.prompts:Check2"]
)
def test_a_check_that_is_not_there_stops_the_start(path: str) -> None:
    with pytest.raises(ConfigError, match=f"ingress.prompt_check is '{path}'"):
        PromptCheck((), path)


@pytest.mark.parametrize("ingress", [{"blocked_terms": [" "]}, {"blocked_terms": ["--"]}, {"prompt_check": "module"}])
def test_a_term_without_words_and_a_path_without_a_function_are_refused(ingress: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(ingress))):
        parse_args({"ingress": ingress})
