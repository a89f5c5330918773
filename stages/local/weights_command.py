"""The command `python -m stages weights`: which weights a preset needs, where they are, and fetching them.

Prints a table of part, source, revision, licence, size and state on this machine, or with `--json` a document; `--pull`
fetches what is missing, with progress bars, and goes on where it stopped; with `--dry-run` it asks the hub what that
would bring and whether it is all there, and fetches no more than a pipeline's index. Of "main" it takes the commit of
the first pull (`stages.model.weights.commits`). `--convert FOLDER` makes safetensors of a torch pickle that somebody
trusts. Exit status 3 where something could not be fetched. Knows nothing of models.
"""

import json
import sys
from pathlib import Path
from typing import Any

from rich.table import Table

from client._shell.ending import OUTSIDE
from client._shell.terminal import make_console
from stages.base import WeightsError
from stages.commands import errors, preset_parser, reports_errors
from stages.presets import Part, Preset, get_preset

_READY = ("embedded", "local", "cached")  # of `stages.model.weights.files.State`


def run(words: list[str]) -> int:
    """The command; returns the exit status."""
    parser = preset_parser("weights", __doc__, "paper")
    parser.add_argument("--pull", action="store_true", help="fetch what is not on this machine")
    parser.add_argument("--dry-run", action="store_true", help="with --pull: only look what would be fetched")
    parser.add_argument("--convert", type=Path, metavar="FOLDER", help="make safetensors of the pickles in a folder")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout in the table's place")
    args = parser.parse_args(words)
    if args.dry_run and not args.pull:
        parser.error("--dry-run is an option of --pull; give both")
    console = make_console()
    if args.convert is not None:
        from stages.model.weights.convert import convert_pickle

        for written in convert_pickle(args.convert):
            console.print(f"{written}: {written.stat().st_size / 1e6:.0f} MB", soft_wrap=True)
        return 0
    preset = get_preset(args.preset)
    failed = _pull(preset, args.dry_run) if args.pull else 0
    if args.json:
        print(json.dumps(_document(preset)))
    else:
        console.print(_table(preset))
    return OUTSIDE if failed else 0


def _document(preset: Preset) -> dict[str, Any]:
    from stages.model.weights.files import local_state

    parts = {
        name: {
            "source": _source(part),
            "revision": _revision(part),
            "commit": _commit(part),
            "licence": part.licence,
            "gb": part.size_gb,
            "state": local_state(name, part),
        }
        for name, part in preset.parts.items()
    }
    absent = [name for name, part in parts.items() if part["state"] not in _READY]
    return {"preset": preset.name, "parts": parts, "absent": absent}


def _table(preset: Preset) -> Table:
    from stages.model.weights.files import local_state

    table = Table(title=f"Weights of preset {preset.name}", title_justify="left")
    pinned = ["revision"] if any(map(_revision, preset.parts.values())) else []
    for column in ("part", "source", *pinned, "licence", "GB", "on this machine"):
        table.add_column(column, overflow="fold", justify="right" if column == "GB" else "left")
    counted: set[tuple[str, str, str, str | None]] = set()
    total = absent = 0.0
    for name, part in preset.parts.items():
        state = local_state(name, part)
        if _key(part) not in counted:
            counted.add(_key(part))
            total += part.size_gb
            absent += 0.0 if state in _READY else part.size_gb
        size = f"{part.size_gb:.3f}" if part.size_gb else "-"
        revision = [_shown(part)] if pinned else []
        table.add_row(name, _source(part), *revision, part.licence, size, state)
    if total:
        table.caption = f"{total:.1f} GB from the hub, each file once; {absent:.1f} GB of it not on this machine"
        if unsaid := _unsaid(preset):
            table.caption += f"; how large {' and '.join(unsaid)} is, --pull --dry-run asks the hub"
    return table


def _unsaid(preset: Preset) -> list[str]:
    """Repositories whose size stands in no row."""
    from stages.model.weights.files import is_hub_id

    parts = [part for part in preset.parts.values() if is_hub_id(part)]
    whole = {part.source for part in parts if part.size_gb and not (part.subfolder or part.weight_name)}
    return list(dict.fromkeys(part.source for part in parts if not part.size_gb and part.source not in whole))


def _pull(preset: Preset, dry: bool) -> int:
    """Fetch every part that is not ready, or say what that would be; how many could not be fetched."""
    from stages.model.weights.commits import commit_of, keep, moves, record_file
    from stages.model.weights.files import cache_room, cached_folder, fetch, is_hub_id, local_state, no_room, source_of
    from stages.model.weights.trees import hub_tree, lacking, to_fetch

    failed = 0
    coming: dict[tuple[str, str], int] = {}
    ready: list[tuple[str, Part]] = []
    for name, part in preset.parts.items():
        if (state := local_state(name, part)) in _READY:
            if state == "cached" and not dry and (snapshot := cached_folder(part)) is not None:
                keep(part, snapshot.name)
            continue
        errors.print(f"{name}: {_source(part)}", soft_wrap=True)
        try:
            if not is_hub_id(part):
                raise WeightsError(
                    f"Part {name!r} is a folder of this machine, {source_of(part)}, and not all of it is there; "
                    f"copy it there, or name another in the preset."
                )
            found = to_fetch(name, part, *hub_tree(name, part))
            errors.print(f"  {len(found)} files, {sum(found.values()) / 1e9:.3f} GB", soft_wrap=True)
            coming |= {(part.source, path): size for path, size in lacking(part, found).items()}
            ready.append((name, part))
        except WeightsError as error:  # told part by part
            failed += 1
            errors.print(str(error), soft_wrap=True)
    needed, (folder, free) = sum(coming.values()), cache_room()
    if dry:
        beside = f", beside {failed} parts that are named above" if failed else ""
        room = f"{free / 1e9:.1f} GB are free at {folder}"
        errors.print(f"{needed / 1e9:.1f} GB would come{beside}; {room}.", soft_wrap=True)
        return failed
    if needed > free:
        raise WeightsError(no_room(f"Preset {preset.name!r}", needed))
    for name, part in ready:
        try:
            fetch(name, part)
            if moves(part):
                told = f"{part.revision} of {part.source} is commit {commit_of(part)} from now on"
                errors.print(f"{name}: {told}, as recorded in {record_file()}.", soft_wrap=True)
        except WeightsError as error:
            failed += 1
            errors.print(str(error), soft_wrap=True)
    return failed


def _source(part: Part) -> str:
    return " ".join(filter(None, (part.source, part.subfolder, part.weight_name, part.variant)))


def _revision(part: Part) -> str:
    """Of a repository of the hub; weights that are embedded or in a folder have none."""
    from stages.model.weights.files import is_hub_id

    return part.revision if is_hub_id(part) else ""


def _commit(part: Part) -> str | None:
    """At which it is fetched; None where nobody knows yet, or there is no repository."""
    from stages.model.weights.commits import commit_of, moves

    commit = commit_of(part)
    return None if not _revision(part) or (moves(part) and commit == part.revision) else commit


def _shown(part: Part) -> str:
    """Its revision in a table: eight digits of a commit, behind the name of a revision that moves."""
    revision, commit = _revision(part), (_commit(part) or "")[:8]
    return (commit if revision[:8] == commit else f"{revision} {commit}".rstrip()) or "-"


def _key(part: Part) -> tuple[str, str, str, str | None]:
    return part.source, part.subfolder, part.weight_name, part.variant


main = reports_errors(run)

if __name__ == "__main__":
    sys.exit(main())
