"""Room for large bodies: how many come in at once, of all and of one tenant.

Each takes disk while it comes and memory while it is judged. Lives in one event loop.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from deployments.errors import UploadsFullError


class UploadRoom:
    """One for each ingress replica; a tenant has half of it."""

    def __init__(self, at_once: int) -> None:
        self._at_once, self._of_tenant = at_once, max(1, at_once // 2)
        self._under_way = Counter[str]()

    @contextmanager
    def place(self, tenant: str) -> Iterator[None]:
        """A place until the end of the block.

        Raises:
            UploadsFullError: there is none.
        """
        for taken, limit in (
            (self._under_way.total(), self._at_once),
            (self._under_way[tenant], self._of_tenant),
        ):
            if taken >= limit:
                raise UploadsFullError(taken, limit)
        self._under_way[tenant] += 1
        try:
            yield
        finally:
            self._under_way -= Counter((tenant,))
