"""`python -m deployments keys ...`, `limits ...`, `backup`, `restore`: who may use a server, how much, and its journal.

    keys create --tenant NAME [--label TEXT]    prints the key, once, alone on stdout
    keys list                                   every key but its secret
    keys revoke ID                              it is refused within `ingress.keys_fresh_s`
    keys open                                   forget revoked keys, none being valid: this machine then needs none
    keys adopt --tenant NAME                    hand over videos, files and studies from before there was a key
    limits set --tenant NAME [--max-running N|none] [--max-queued N|none] [--per-minute N|none]
               [--max-priority N|none] [--weight N|none] [--max-bytes N|none] [--reuse|--no-reuse]
    limits show                                 of every tenant
    backup FILE                                 the whole journal, while the server works; videos are the store's
    restore FILE                                into an empty journal, of either kind of database

They write to the database of the server that `--laptop`, `--cluster`, `--config` and `--data-dir` name, as for `serve`,
which may run meanwhile. Exit code 0: done; 2: the command is wrong; 3: trouble
from outside, both with one sentence on stderr. Imports no Ray.
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from client._shell.outputs import is_stdout
from client._shell.terminal import tell
from deployments.errors import ConfigError
from deployments.jobs.values import Limits
from deployments.journal.backup import back_up, restore
from deployments.journal.database import Database, opened, redacted_url
from deployments.journal.limits import LimitBook
from deployments.journal.owners import hand_over, ownerless
from deployments.settings.application import AppArgs
from deployments.settings.reading import CONFIG_PATH, load_config
from deployments.settings.variants import laptop
from deployments.tenants.keys import KeyBook, UnknownKeyError

_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_LABEL_CHARS = 200
_NUMBERS = ("max_running", "max_queued", "per_minute", "max_priority", "weight", "max_bytes")
_Act = Callable[[argparse.Namespace, AppArgs, Database], None]


def add_admin_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Put them beside `serve`; each sets `run`, which takes the options and gives the exit code."""
    keys = commands.add_parser("keys", help="API keys: create, list, revoke, open, adopt").add_subparsers(
        required=True, metavar="ACTION"
    )
    create = _action(keys, "create", _create_key, "make a key and print it; it is shown only then")
    create.add_argument("--tenant", type=_tenant, required=True, help="whose jobs and limits it stands for")
    create.add_argument("--label", type=_label, default="", help="what it is for, shown by `keys list`")
    _action(keys, "list", _list_keys, "every key but its secret")
    revoke = _action(keys, "revoke", _revoke_key, "make a key invalid")
    revoke.add_argument("id", help="as `keys list` shows it")
    _action(keys, "open", _open, "forget the revoked keys, none being valid, so that this machine needs no key")
    adopt = _action(keys, "adopt", _adopt, "hand a tenant the videos, files and studies from before there was a key")
    adopt.add_argument("--tenant", type=_tenant, required=True, help="whose they are from then on")

    limits = commands.add_parser("limits", help="what each tenant may do: set, show").add_subparsers(
        required=True, metavar="ACTION"
    )
    change = _action(limits, "set", _set_limits, "change some limits of a tenant; the others stay")
    change.add_argument("--tenant", type=_tenant, required=True)
    for name in _NUMBERS:
        option = "--" + name.replace("_", "-")
        said = f"{Limits.model_fields[name].description} `none`: no limit."
        change.add_argument(
            option,
            dest=name,
            type={"max_priority": _priority, "weight": _weight, "max_bytes": _bytes}.get(name, _limit),
            metavar="N",
            default=argparse.SUPPRESS,
            help=said,
        )
    change.add_argument(
        "--reuse",
        action=argparse.BooleanOptionalAction,
        default=argparse.SUPPRESS,
        help=Limits.model_fields["reuse"].description,
    )
    _action(limits, "show", _show_limits, "the limits of every tenant")

    for name, act, said in (
        ("backup", _back_up, "write the whole journal into a file, while the server works"),
        ("restore", _restore, "put a backup into an empty journal"),
    ):
        _action(commands, name, act, said).add_argument("file", type=Path, help="gzipped lines of JSON")


def add_place_options(parser: argparse.ArgumentParser) -> None:
    """The options that say which server is meant."""
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--laptop", action="store_true", help="everything on this machine (the default), without a GPU")
    place.add_argument("--cluster", action="store_true", help="on a Ray cluster, as the config file says")
    parser.add_argument("--config", type=Path, default=CONFIG_PATH, help="Serve config file (%(default)s)")
    parser.add_argument(
        "--data-dir", type=Path, default=Path("data"), help="laptop: where jobs and videos are kept (%(default)s)"
    )


def _action(commands: Any, name: str, act: _Act, help_text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help_text, description=help_text)
    add_place_options(parser)
    parser.set_defaults(run=lambda options: _run(act, options))
    return parser


def _run(act: _Act, options: argparse.Namespace) -> int:
    args = load_config(options.config)
    if not options.cluster:
        args = laptop(args, data_dir=options.data_dir)
    url = args.storage.database()
    with opened(url) as database:
        try:
            act(options, args, database)
        except UnknownKeyError as error:
            raise ConfigError(f"{error} The database is {redacted_url(url)}.") from error
    return 0


def _create_key(options: argparse.Namespace, args: AppArgs, database: Database) -> None:
    book = KeyBook(database)
    is_first = not book.in_use()
    key, text = book.create(options.tenant, options.label)
    print(text)
    _note(
        f"Key {key.id} of tenant {key.tenant}, in {redacted_url(args.storage.database())}. Keep it: it cannot be "
        "shown again. Clients send it as `Authorization: Bearer ...`, or read it from MAGICVIDEO_API_KEY."
    )
    if is_first:
        _note(f"From now on every request needs a key, from this machine too.{_said_of_ownerless(database)}")


def _list_keys(_options: argparse.Namespace, args: AppArgs, database: Database) -> None:
    keys = KeyBook(database).all()
    rows = [
        (key.id, key.tenant, _when(key.created_at), _when(key.revoked_at) if key.revoked_at else "-", key.label)
        for key in keys
    ]
    _table(("ID", "TENANT", "CREATED", "REVOKED", "LABEL"), rows)
    if not any(key.revoked_at is None for key in keys):
        _note(f"{redacted_url(args.storage.database())} holds no valid key; {_without_valid(bool(keys))}")


def _revoke_key(options: argparse.Namespace, args: AppArgs, database: Database) -> None:
    book = KeyBook(database)
    key = book.revoke(options.id)
    print(f"Key {key.id} of tenant {key.tenant} is revoked since {_when(key.revoked_at or 0.0)}.")
    _note(f"A server that runs refuses it within {args.ingress.keys_fresh_s:g} s.")
    if not book.known().valid:
        _note(f"It was the last valid one; {_without_valid(True)}")


def _open(_options: argparse.Namespace, args: AppArgs, database: Database) -> None:
    count = KeyBook(database).open()
    print(f"{count} revoked {'key is' if count == 1 else 'keys are'} forgotten; {_without_valid(False)}")
    _note(f"A server that runs knows it within {args.ingress.keys_fresh_s:g} s.")


def _adopt(options: argparse.Namespace, _args: AppArgs, database: Database) -> None:
    found = hand_over(database, options.tenant)
    was = "was nobody's belongs" if found.total == 1 else "were nobody's belong"
    print(f"{found} that {was} to {options.tenant} now.")


def _without_valid(closed: bool) -> str:
    if closed:
        return "the server refuses every request until there is one, or `keys open` forgets the revoked ones."
    return "the server answers its own machine alone, without a key."


def _said_of_ownerless(database: Database) -> str:
    found = ownerless(database)
    if not found.total:
        return ""
    was, them = ("was made without is", "it") if found.total == 1 else ("were made without are", "them")
    return f" The {found} that {was} hidden from everybody; `keys adopt --tenant NAME` hands {them} over."


def _set_limits(options: argparse.Namespace, args: AppArgs, database: Database) -> None:
    changes = {name: value for name, value in vars(options).items() if name in Limits.model_fields}
    if not changes:
        raise ConfigError(
            "Nothing to set; give --max-running, --max-queued, --per-minute, --max-priority, --weight, --max-bytes, "
            "--reuse or --no-reuse."
        )
    book = LimitBook(database)
    is_new = options.tenant not in book.all()
    _limits_table([(options.tenant, book.change(options.tenant, changes, args.limits_for(options.tenant)))])
    if is_new:
        _note(f"Tenant {options.tenant} had the defaults of the configuration; from now on it has these.")


def _show_limits(_options: argparse.Namespace, args: AppArgs, database: Database) -> None:
    own = LimitBook(database).all()
    others = sorted({key.tenant for key in KeyBook(database).all() if key.revoked_at is None}.difference(own))
    _limits_table(
        [*own.items(), *((name, args.limits_for(name)) for name in others), ("(others)", args.limits_for("*"))]
    )


def _back_up(options: argparse.Namespace, args: AppArgs, database: Database) -> None:
    count = back_up(database, options.file)
    tell(
        f"{options.file} holds the {count} rows of {redacted_url(args.storage.database())}.",
        err=is_stdout(options.file),
    )


def _restore(options: argparse.Namespace, args: AppArgs, database: Database) -> None:
    count = restore(database, options.file)
    print(f"{redacted_url(args.storage.database())} has the {count} rows of {options.file}.")


def _limits_table(rows: Sequence[tuple[str, Limits]]) -> None:
    cells = [
        (name, *(_number(getattr(limits, number)) for number in _NUMBERS), "yes" if limits.reuse else "no")
        for name, limits in rows
    ]
    _table(("TENANT", *(number.upper() for number in _NUMBERS), "REUSE"), cells)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _note(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def _number(limit: int | None) -> str:
    return "none" if limit is None else str(limit)


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _tenant(text: str) -> str:
    if not _TENANT.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no name of a tenant; that has 1 to 64 letters, digits, dots, dashes and underscores, a "
            "letter or digit first"
        )
    return text


def _label(text: str) -> str:
    if len(text) > _MAX_LABEL_CHARS or not text.isprintable():
        raise argparse.ArgumentTypeError(f"a label has at most {_MAX_LABEL_CHARS} printable characters")
    return text


def _bytes(text: str) -> int | None:
    return _limit(text, digits=18)


def _limit(text: str, digits: int = 9) -> int | None:
    if text == "none":
        return None
    if not text.isdecimal() or len(text) > digits or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no limit; it must be a number above 0, or none")
    return int(text)


def _weight(text: str) -> int | None:
    if text != "none" and not (re.fullmatch(r"\d{1,3}", text) and 1 <= int(text) <= 100):
        raise argparse.ArgumentTypeError(f"{text!r} is no weight; it must be a number from 1 to 100, or none")
    return _limit(text)


def _priority(text: str) -> int | None:
    if text == "none":
        return None
    if not re.fullmatch(r"-?\d{1,2}", text) or not -10 <= int(text) <= 10:
        raise argparse.ArgumentTypeError(f"{text!r} is no priority; it must be a number from -10 to 10, or none")
    return int(text)
