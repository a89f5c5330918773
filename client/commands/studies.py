"""The verbs of `magicvideo study`."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._shell.terminal import plain, tell
from .options import Asking, Following
from .outcome import EXIT_CODES, REFUSED, ask, connect, print_json, reporting

if TYPE_CHECKING:
    from .._core.client import Client
    from ..schema_studies import Power, RaterLinks, Study, StudyList, StudyResults

app = typer.Typer(
    name="study",
    help="Ask people which of two sets of videos is better.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

_POLL_S = 0.5
StudyId = Annotated[str, typer.Argument(metavar="ID", help="Id of the study, as create and list print it.")]
_SET = "options like preset=tiny,steps=14; a folder of mp4s; or a file with ids of videos."
_AGAIN = "Stopped; run the same command again: it makes nothing twice."


def create(
    wishes: Following,
    a: Annotated[str, typer.Option("--a", metavar="SET", help=f"One side: {_SET}")],
    b: Annotated[str, typer.Option("--b", metavar="SET", help="The other side.")],
    also: Annotated[list[str] | None, typer.Option(metavar="SET", help="A system more, for a ranking.")] = None,
    prompts: Annotated[Path | None, typer.Option(metavar="FILE", help="A prompt on each line.")] = None,
    seeds: Annotated[int, typer.Option(help="Videos of each prompt.")] = 1,
    first_seed: Annotated[int, typer.Option(help="Of the first of them.")] = 0,
    raters: Annotated[int, typer.Option(help="How many people vote, each by a link of their own.")] = 10,
    trials: Annotated[int | None, typer.Option(help="Pairs that a rater votes on; else all.")] = None,
    overall: Annotated[bool, typer.Option("--overall", help="One question, not the paper's three.")] = False,
    title: Annotated[str, typer.Option(help="What raters read above.")] = "Which is better?",
    instructions: Annotated[str, typer.Option(help="And below it.")] = "",
    show_prompt: Annotated[bool, typer.Option("--show-prompt", help="Let raters read the prompt.")] = False,
    days: Annotated[float, typer.Option(help="Until links expire.")] = 30.0,
) -> None:
    """Make the videos, freeze the plan, print a link for each rater.

    As in: magicvideo study create --a preset=tiny,steps=14 --b preset=tiny,steps=6 --prompts prompts.txt --seeds 3
    """
    with reporting(wishes.as_json, lambda: _AGAIN):
        from .._many.study_sets import judge, obtain, read_prompts, understand
        from ..errors import InvalidArgumentError
        from ..schema_studies import QUESTIONS

        if seeds < 1 or first_seed < 0:
            raise InvalidArgumentError(f"--seeds is {seeds} from {first_seed} on; it must be at least 1, from 0 on.")
        wanted = understand((a, b, *(also or ())))
        lines = read_prompts(prompts) if prompts is not None else []
        asked: dict[str, Any] = {
            "title": title,
            "instructions": instructions,
            "raters": raters,
            "show_prompt": show_prompt,
        }
        asked |= {} if trials is None else {"trials": trials}
        if overall:
            asked["criteria"] = [{"name": "overall", "question": QUESTIONS["overall"]}]
        judge(wanted, asked, days)

        def told(sentence: str) -> None:
            if not wishes.quiet:
                tell(sentence, err=True)

        with connect(wishes) as client:
            systems = obtain(client, wanted, lines, seeds, first_seed, told)
            study = client.studies.create(systems, **asked)
            told(f"{study.id}: its {study.videos} videos are prepared")
            study = _prepared(client, study)
            if study.error is not None:
                raise InvalidArgumentError(study.error)
            known = client.studies.links(study.id)
            made = known if known.data else client.studies.make_links(study.id, days=days)
            study = client.studies.retrieve(study.id)  # with its links
        if wishes.as_json:
            print_json({"study": study.model_dump(mode="json"), "links": made.model_dump(mode="json")["data"]})
        elif wishes.quiet:
            typer.echo(study.id)
        else:
            _tell_study(study)
            _tell_links(made)


def _prepared(client: "Client", study: "Study") -> "Study":
    while study.state == "preparing":
        time.sleep(_POLL_S)
        study = client.studies.retrieve(study.id)
    return study


def list_studies(asking: Asking) -> None:
    """List the newest studies."""

    def show(found: "StudyList") -> None:
        from .display import print_table

        rows = ((one.id, one.state, str(one.votes), plain(one.title)) for one in found.data)
        print_table(("id", "state", "votes", "title"), rows)

    ask(asking, lambda client: client.studies.list(), show)


def status(study_id: StudyId, asking: Asking) -> None:
    """Show how far a study is."""
    study = ask(asking, lambda client: client.studies.retrieve(study_id), _tell_study)
    if study.state == "failed":
        raise typer.Exit(REFUSED)


def links(
    study_id: StudyId,
    asking: Asking,
    make: Annotated[int | None, typer.Option(help="Make so many more.")] = None,
    days: Annotated[float, typer.Option(help="Until those expire.")] = 30.0,
    revoke: Annotated[str | None, typer.Option(metavar="LINK", help="End this one; its votes stay.")] = None,
) -> None:
    """Show the raters' links, make some, or revoke one."""

    def question(client: "Client") -> "RaterLinks":
        if revoke is not None:
            return client.studies.revoke(study_id, revoke)
        return client.studies.links(study_id) if make is None else client.studies.make_links(study_id, make, days=days)

    ask(asking, question, _tell_links)


def results(
    study_id: StudyId,
    asking: Asking,
    plots: Annotated[Path | None, typer.Option(metavar="DIR", help="Also write the pictures there.")] = None,
    numbers: Annotated[
        bool, typer.Option("--numbers", help="First measure warp error, VMAF and so on; some seconds a video.")
    ] = False,
) -> None:
    """Show what the votes say."""
    if plots is not None:
        with reporting(asking.as_json):
            from .._shell.outputs import judge_folder, written

            judge_folder(plots)
    if numbers:
        with reporting(asking.as_json, lambda: "Stopped; the server goes on measuring."), connect(asking) as client:
            measured = client.studies.numbers(study_id)
            if measured.state == "pixels":
                measured = client.studies.measure(study_id)
            while measured.state == "measuring":
                time.sleep(_POLL_S)
                measured = client.studies.numbers(study_id)
            if measured.state != "complete":
                tell("The server has not measured the videos to their end; run the same command again.", err=True)
    found = ask(asking, lambda client: client.studies.results(study_id), _tell_results)
    if plots is not None:
        with reporting(False):
            plots.mkdir(parents=True, exist_ok=True)
            with connect(asking) as client:
                for name in ("bars", *(("ranking",) if found.ranking else ())):
                    picture = client.studies.plot(study_id, "ranking" if name == "ranking" else "bars")
                    with written(plots / f"{study_id}-{name}.png") as draft:
                        draft.write_bytes(picture)


def export(
    study_id: StudyId,
    asking: Asking,
    output: Annotated[Path, typer.Option("--output", "-o", help="A .jsonl or .csv, replaced if it exists.")],
) -> None:
    """Write every vote to a file, with the ids and seeds of its videos."""
    with reporting(asking.as_json):
        from .._shell.outputs import judge_output, written
        from .follow import check_outputs, tell_path

        check_outputs(output, as_json=asking.as_json)
        target = judge_output(output, (".csv", ".jsonl"))
        with connect(asking) as client:
            data = client.studies.export(study_id, "csv" if target.suffix.lower() == ".csv" else "jsonl")
        with written(target) as draft:
            draft.write_bytes(data)
        if asking.as_json:
            print_json({"id": study_id, "path": str(target), "bytes": len(data)})
        else:
            tell_path(target)


def power(
    asking: Asking,
    difference: Annotated[
        float, typer.Option(help="Share of votes for the better one less that for the other, 0.01 to 0.9.")
    ],
    ties: Annotated[float, typer.Option(help="Share that names neither.")] = 0.2,
    wanted: Annotated[float, typer.Option("--power", help="How surely it is to be seen.")] = 0.8,
) -> None:
    """Say how many raters and pairs a study needs."""

    def show(found: "Power") -> None:
        from .display import print_table

        typer.echo(f"{found.independent_votes} independent votes, or:")
        print_table(("raters", "pairs"), ((str(one.raters), str(one.pairs)) for one in found.designs))
        typer.echo(found.note)

    ask(asking, lambda client: client.studies.power(difference, ties=ties, power=wanted), show)


def delete(study_id: StudyId, asking: Asking) -> None:
    """Forget a study with its links and votes. Jobs that it was made of stay."""
    ask(
        asking,
        lambda client: client.studies.delete(study_id),
        lambda gone: typer.echo(f"{gone.id} is deleted."),
    )


def _tell_study(study: "Study") -> None:
    typer.echo(f"{study.id}  {study.state}  {plain(study.title)}")
    typer.echo(f"{study.pairs} pairs of {study.prompts} prompts: {plain(' against '.join(study.systems))}")
    trials = f"{study.trials} trials, {study.checks} checks and {study.training} for training each"
    typer.echo(f"{study.raters} raters, {trials}; {study.links} links, {study.votes} votes")
    rule = study.exclusion
    typer.echo(
        f"plan {study.digest[:16]}; left out is who fails so many checks as {100 * rule.error:g} % of those would who "
        f"fail {100 * rule.lapses:g} %, or names one side in over {100 * rule.max_one_side:g} %"
    )
    for said in (study.note, study.error):
        if said:
            typer.echo(plain(said))


def _tell_links(found: "RaterLinks") -> None:
    for link in found.data:
        state = "revoked" if link.revoked else f"{link.done} of {link.total}"
        typer.echo(f"{link.rater:>4}  {link.id}  {state}  {link.url or ''}")


def _tell_results(found: "StudyResults") -> None:
    from .display import print_table

    def between(interval: tuple[float, float] | None) -> str:
        return "" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]"

    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    rows = [
        (
            one.criterion,
            f"{one.good}/{one.same}/{one.bad}",
            shown(one.ratio) + between(one.ratio_interval),
            shown(one.preference) + between(one.preference_interval),
            "-" if one.p_value is None else f"{one.p_value:.2g}",
            f"{one.missing} votes are missing" if one.missing else plain(named.get(one.verdict, one.verdict)),
            plain(f"{one.a} against {one.b}"),
        )
        for one in found.comparisons
        for named in [{"a": one.a, "b": one.b}]
    ]
    typer.echo(f"{found.votes} votes of {found.raters} raters; plan {found.digest[:16]}")
    print_table(("question", "G/S/B", "(G+S)/(B+S)", "preference", "p", "better", "of"), rows, cut=False)
    for agreed in found.agreement:
        kappa, alpha = shown(agreed.fleiss_kappa), shown(agreed.krippendorff_alpha)
        typer.echo(f"agreement on {agreed.criterion}: Fleiss' kappa {kappa}, Krippendorff's alpha {alpha}")
    typer.echo(f"left {found.side_bias.left}, right {found.side_bias.right}, p {shown(found.side_bias.p_value)}")
    for place, one in enumerate(found.ranking, start=1):
        typer.echo(f"{place}. {plain(one.system)}  {one.strength:+.2f}{between(one.interval)}")
    for number in found.numbers:
        means = ", ".join(f"{plain(name)} {value:.3g}" for name, value in number.means.items())
        what = "votes" if number.goes_with == "preference" else "votes for the same"
        over = f"{shown(number.correlation)} (Spearman, {number.pairs} pairs)"
        typer.echo(f"{plain(number.number)}: {means}{'; ' if means else ''}goes with the {what} by {over}")
    for two in found.between:
        told = ", ".join(f"{name} {value:.4g}" for name, value in two.numbers.items())
        typer.echo(f"{plain(two.a)} against {plain(two.b)}: {told}")
    for note in found.notes:
        typer.echo(plain(note))


COMMANDS: dict[str, Callable[..., None]] = {
    "create": create,
    "list": list_studies,
    "status": status,
    "links": links,
    "results": results,
    "export": export,
    "power": power,
    "delete": delete,
}
