"""Whether a prompt may be made: an operator's list of blocked terms, and a check of their own.

A term is found as whole words, whatever its case, its Unicode form and the space between its words. What the prompt
must not hold is not told to the client, who would only learn the list; a check's own reason is. Only what is to be
seen is checked: a negative prompt names what is not to be.
"""

import pkgutil
import re
import unicodedata
from collections.abc import Callable, Sequence

from deployments.bulkheads import Bulkhead
from deployments.errors import ConfigError, InvalidRequestError

Check = Callable[[str, str], str | None]
"""check(prompt, tenant) gives one sentence that says why not, or None. Runs in a thread; raising is a server error."""


class PromptCheck:
    """Of one server.

    Raises:
        ConfigError: `check`, as module:function, cannot be imported.
    """

    def __init__(self, blocked_terms: Sequence[str] = (), check: str | None = None) -> None:
        terms = [r"\s+".join(map(re.escape, _plain(term).split())) for term in blocked_terms]
        self._blocked = re.compile(rf"(?<!\w)(?:{'|'.join(terms)})(?!\w)") if terms else None
        self._check = load_check(check) if check is not None else None
        self._at_check = Bulkhead("The check of prompts", threads=4, wait_s=30.0)

    async def judge(self, field: str, prompt: str, tenant: str) -> None:
        """Refuse a prompt; `field` is where it stood.

        Raises:
            InvalidRequestError: code prompt_blocked.
        """
        if self._blocked is not None and self._blocked.search(_plain(prompt)):
            said = f"Field {field} holds words that this server makes no videos of; say it in other words."
            raise InvalidRequestError(said, param=field, code="prompt_blocked")
        if self._check is not None:
            reason = await self._at_check.run(self._check, prompt, tenant)
            if reason is not None:
                raise InvalidRequestError(f"Field {field} is refused: {reason}", param=field, code="prompt_blocked")


def load_check(path: str) -> Check:
    """The function that `module:function` names.

    Raises:
        ConfigError: there is none.
    """
    try:
        found = pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"ingress.prompt_check is {path!r}, which cannot be imported ({error}).") from error
    if not callable(found):
        raise ConfigError(f"ingress.prompt_check is {path!r}, which is no function.")
    check: Check = found
    return check


def _plain(text: str) -> str:
    """One spelling for what reads the same: NFKC, case folded, without characters that nobody sees."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return "".join(sign for sign in folded if unicodedata.category(sign) != "Cf")
