"""The whole journal in one file, and back: a line of JSON a row, gzipped; of either kind of database into either.

The file holds one moment, written while the server works. It is put back into an empty journal of the same schema, all
or nothing. Files of videos and checkpoints are the store's, and not in it.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, text

from client._shell.outputs import written
from deployments.errors import ConfigError
from deployments.journal.database import SCHEMA, Database
from deployments.journal.tables import metadata

_ROWS = 1000  # at once
_TABLES = [table for table in metadata.sorted_tables if table.info.get("kept", True)]


def back_up(database: Database, path: Path) -> int:
    """Write every row; gives how many. The file is there whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    count = 0
    with (
        written(path) as draft,
        gzip.open(draft, "wt", encoding="utf-8") as file,
        database.read() as connection,
    ):
        file.write(json.dumps({"magicvideo_journal": SCHEMA}) + "\n")
        streaming = connection.execution_options(yield_per=_ROWS)
        for table in _TABLES:
            for row in streaming.execute(select(table)).mappings():
                file.write(json.dumps([table.name, dict(row)]) + "\n")
                count += 1
        file.write(json.dumps({"rows": count}) + "\n")
    return count


def restore(database: Database, path: Path) -> int:
    """Put every row of a backup into an empty journal; gives how many. Leases in it have lapsed or lapse soon.

    Raises:
        ConfigError: the journal holds rows, or the file is no whole backup of this schema; nothing was written.
    """
    with database.write() as connection:
        for table in _TABLES:
            if connection.execute(select(func.count()).select_from(table)).scalar_one():
                raise ConfigError(
                    f"The journal has rows in {table.name}; a backup is put back into an empty one alone."
                )
        count = 0
        try:
            for name, rows in _pages(path):
                connection.execute(metadata.tables[name].insert(), rows)
                count += len(rows)
        except (OSError, EOFError, ValueError, LookupError, AttributeError, TypeError, zlib.error) as error:
            if isinstance(error, OSError) and error.strerror:
                raise ConfigError(f"{path} cannot be read ({error.strerror}); give a file of `backup`.") from error
            reason = str(error) if isinstance(error, _NotWholeError) else "it is cut off, or another kind of file"
            raise ConfigError(f"{path} is no whole backup of a journal: {reason}.") from error
        if not database.is_sqlite:
            for table in _TABLES:
                if "seq" in table.c:
                    highest = f"(SELECT COALESCE(max(seq), 0) + 1 FROM {table.name})"
                    connection.execute(
                        text(f"SELECT setval(pg_get_serial_sequence('{table.name}', 'seq'), {highest}, false)")
                    )
    return count


class _NotWholeError(ValueError):
    """Its message is a reason in our words."""


def _pages(path: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Rows of one table each.

    Raises:
        _NotWholeError: it is not what `back_up` writes, or not all of it.
    """
    with gzip.open(path, "rt", encoding="utf-8") as file:
        if (found := json.loads(file.readline() or "{}").get("magicvideo_journal")) != SCHEMA:
            raise _NotWholeError(f"its schema is {found}, this server's is {SCHEMA}")
        count, complete = 0, False
        while lines := list(islice(file, _ROWS)):
            pages: dict[str, list[dict[str, Any]]] = {}
            for line in map(json.loads, lines):
                if isinstance(line, dict):
                    complete = line.get("rows") == count + sum(map(len, pages.values()))
                else:
                    pages.setdefault(line[0], []).append(line[1])
            for name, rows in pages.items():
                count += len(rows)
                yield name, rows
        if not complete:
            raise _NotWholeError("its last line, with the number of rows, is missing or another")
