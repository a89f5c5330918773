"""Which of several clusters on one journal claims jobs: the one that was started last of those that can make videos.

An upgrade runs the new cluster beside the old one for a while. Each says in the journal, once a second, that it is
there and whether it is ready; one that is silent is not counted. While none is ready, all claim. What an older one has
claimed it carries to the end. Knows nothing of Ray.
"""

from sqlalchemy import select, update

from deployments.journal.database import Database
from deployments.journal.tables import clusters

_FORGET_S = 86_400.0  # after so long a silence a cluster that comes back counts as a new one


class Generations:
    """As one cluster sees them."""

    def __init__(self, database: Database, cluster: str) -> None:
        self._database, self._cluster = database, cluster

    def stand(self, *, ready: bool, alive_s: float) -> bool:
        """Say that this cluster is there; gives whether its pipelines may claim.

        Args:
            ready: whether it could make videos.
            alive_s: a cluster that was silent for longer is gone.
        """
        with self._database.write() as connection:
            now = self._database.now(connection)
            seen = {"seen_at": now, **({"ready": True} if ready else {})}  # once it was, it stays so
            own = clusters.c.id == self._cluster
            if not connection.execute(update(clusters).where(own).values(**seen)).rowcount:
                connection.execute(clusters.delete().where(clusters.c.seen_at < now - _FORGET_S))
                made = {"id": self._cluster, "since": now, "seen_at": now, "ready": ready}
                connection.execute(clusters.insert().values(**made))
            there = select(clusters.c.id).where(clusters.c.ready, clusters.c.seen_at >= now - alive_s)
            newest = connection.execute(there.order_by(clusters.c.since.desc(), clusters.c.id).limit(1)).scalar()
        return newest in (None, self._cluster)
