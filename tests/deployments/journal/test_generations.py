"""Several clusters on one journal, on SQLite and on PostgreSQL: the newest that is ready claims."""

from deployments.journal.database import Database
from deployments.journal.generations import Generations
from deployments.journal.journal import Journal

LONG_S, GONE_S = 60.0, -1.0


def test_the_newest_that_is_ready_claims_and_an_older_one_when_it_is_gone(journal: Journal) -> None:
    database: Database = journal.database
    old, new = Generations(database, "old"), Generations(database, "new")
    assert old.stand(ready=False, alive_s=LONG_S)  # alone
    assert old.stand(ready=True, alive_s=LONG_S)
    assert not new.stand(ready=False, alive_s=LONG_S)  # it could make none
    assert old.stand(ready=True, alive_s=LONG_S)
    assert new.stand(ready=True, alive_s=LONG_S)
    assert not old.stand(ready=True, alive_s=LONG_S)
    assert new.stand(ready=False, alive_s=LONG_S)  # a pipeline that has just started beside others of its cluster
    assert not old.stand(ready=True, alive_s=LONG_S)
    assert old.stand(ready=True, alive_s=GONE_S)
    assert not old.stand(ready=True, alive_s=LONG_S)  # however often it says so, it is the older one
