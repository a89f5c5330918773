"""How much of a stage each tenant has had of late: fed seconds of computing, read as seconds by tenant.

Old use fades, by half in each `half_life_s`, so that who was away is not owed for ever. Takes moments in seconds of any
one clock. Knows nothing of calls or weights.
"""

from collections.abc import Mapping

_FORGOTTEN_S = 1e-3  # what fades to less is nothing, so that who has come once is not remembered for ever


class UseMeter:
    """One for each stage."""

    def __init__(self, half_life_s: float = 600.0) -> None:
        self._half_life_s = half_life_s
        self._used: dict[str, tuple[float, float]] = {}  # seconds, as of when

    def add(self, tenant: str, seconds: float, at_s: float) -> None:
        """A replica has computed so long for the tenant."""
        self._used[tenant] = (self._of(tenant, at_s) + seconds, at_s)

    def read(self, now_s: float) -> Mapping[str, float]:
        """Seconds of each tenant that has had any of late."""
        found = {tenant: self._of(tenant, now_s) for tenant in self._used}
        for tenant in [tenant for tenant, used_s in found.items() if used_s < _FORGOTTEN_S]:
            del self._used[tenant], found[tenant]
        return found

    def _of(self, tenant: str, now_s: float) -> float:
        used_s, at_s = self._used.get(tenant, (0.0, now_s))
        return float(used_s * 0.5 ** (max(0.0, now_s - at_s) / self._half_life_s))
