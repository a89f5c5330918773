"""How alembic reaches the journal: over the connection that `deployments.journal.database` has open, in its
transaction.

By hand, from the root of the repository: `alembic -c deployments/journal/migrations/alembic.ini -x
url=sqlite:///jobs.sqlite upgrade head`; the server does the same when it starts.
"""

from alembic import context
from sqlalchemy import create_engine

from deployments.journal.database import driver_url
from deployments.journal.tables import metadata

connection = context.config.attributes.get("connection")
if connection is not None:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()
else:
    url = context.get_x_argument(as_dictionary=True).get("url")
    if not url:
        raise SystemExit("Name the database: alembic -x url=postgresql://... upgrade head")
    with create_engine(driver_url(url)).connect() as opened:
        context.configure(connection=opened, target_metadata=metadata)
        with context.begin_transaction():
            context.run_migrations()
