"""What a rater's link carries: the link's id and a signature by a secret of the journal, the same for every replica and
after a restore.

    rater_<id>.<HMAC-SHA256, base64url>

How long it lasts stands in the link's row, so that it can be revoked. Behind the `#` of an address it reaches no log.
"""

import hmac
import re

from deployments.errors import AuthenticationError, NotAllowedError
from deployments.tenants.links import Links

_TOKEN = re.compile(r"rater_([0-9a-f]{24})\.([A-Za-z0-9_-]{43})")
_PURPOSE = "study rater"


async def token_of(links: Links, link_id: str) -> str:
    """The text of a link."""
    return f"rater_{link_id}.{await links.mark(_PURPOSE, link_id, make=True)}"


async def link_of(links: Links, token: str | None) -> str:
    """The link's id.

    Raises:
        AuthenticationError: it is no such text.
        NotAllowedError: this server has not signed it.
    """
    found = _TOKEN.fullmatch(token or "")
    if found is None:
        error = AuthenticationError("This page needs a rater's link; open the whole address that was sent to you.")
        error.code = "invalid_link"
        raise error
    if not hmac.compare_digest(await links.mark(_PURPOSE, found[1]) or "", found[2]):
        raise NotAllowedError(
            "Your link is not signed by this server; open the whole address that was sent to you.",
            param="Authorization",
            code="invalid_link",
        )
    return found[1]
