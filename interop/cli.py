"""`python -m interop`: try real calls between this project and other stacks, or against a server of yours."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import click

from interop.browsers import addressed_namespace
from interop.console import speak_to_whatever_listens
from interop.evidence import Side
from interop.giving_up import FirstCalls
from interop.interruption import Interruption
from interop.listing import print_list
from interop.peers.base import Peer
from interop.peers.registry import PEERS
from interop.peers.target import Echoes, Target, is_loopback, probe, without_credentials
from interop.places import UnusableError, check_files, check_folder, reason, write_file
from interop.progress import Progress
from interop.report import as_json, as_junit, matrix, merged, page, plain, read_results
from interop.runner import OURS, Cell, Pair, Plan, innermost, run_plan
from interop.scenarios import SCENARIOS
from interop.side_by_side import MAX_JOBS, run_side_by_side
from interop.verdict import Outcome
from stack.cli_run import run as run_command
from stack.cli_types import Place, WholeRange

HELP = """Try real calls between this project and other stacks, or with a server or a client of yours.

\b
python -m interop --list                    what there is, and what is absent
python -m interop quick --html report.html  a look at all this: two minutes
python -m interop run firefox pion audio    these peers, these scenarios
python -m interop run --target URL          a server of yours
python -m interop serve                     judge the client that calls
python -m interop all --html report.html    everything
python -m interop setup pion                fetch or build a peer
"""
ROOT = Path(__file__).resolve().parent.parent
QUICK_PEERS = (OURS, "chromium", "firefox", "aiortc", "pion")
QUICK_JOBS = 4
NOTHING_TRIED = (Outcome.ABSENT, Outcome.UNSUPPORTED, Outcome.UNTRIED)


def pairs_of(peers: Sequence[Peer]) -> list[Pair]:
    """Each peer as a client of our server, and as a server for our client."""
    ours = PEERS[OURS]
    pairs = []
    for peer in peers:
        if peer is ours:
            pairs.append(Pair(ours, ours, "server"))
            continue
        for side in peer.sides:
            pairs.append(Pair(peer, ours, side) if side == "client" else Pair(ours, peer, side))
    return pairs


def target_pairs(target: Peer, clients: Sequence[Peer]) -> list[Pair]:
    """A server by its URL, called by our client and by browsers."""
    side: Side = "server"
    return [Pair(client, target, side) for client in clients if "client" in client.sides]


def chosen(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Sort names into peers and scenarios; `click.UsageError` for what is neither."""
    names = list(dict.fromkeys(names))
    known = {name.lower(): name for name in (*PEERS, *SCENARIOS)}
    for name in names:
        if name not in PEERS and name not in SCENARIOS:
            near = get_close_matches(name.lower(), known, 1)
            hint = f" (did you mean {known[near[0]]!r}?)" if near else ""
            raise click.UsageError(f"{name!r} is neither a peer nor a scenario{hint}; --list shows both")
    return [name for name in names if name in PEERS], [name for name in names if name in SCENARIOS]


def _options(command: Any) -> Any:
    for option in (
        click.option("--json", "json_file", type=Place(path_type=Path), help="Write the results as JSON."),
        click.option("--junit", type=Place(path_type=Path), help="Write the results as JUnit XML."),
        click.option("--html", type=Place(path_type=Path), help="Write the report: one page that holds all."),
        click.option(
            "--against", type=Place(path_type=Path, exists=True), help="A former run's JSON, beside this one."
        ),
        click.option(
            "--keep",
            type=Place(path_type=Path, file_okay=False),
            help="Keep capture, key log, SDP, statistics and log of each failure in this folder.",
        ),
        click.option(
            "--update",
            type=Place(path_type=Path, exists=True),
            help="A former run's JSON: what is run now takes the place of the same cells there.",
        ),
        click.option(
            "--again",
            is_flag=True,
            help="Run only what is red or was not tried in the run of --update, or is not in it.",
        ),
        click.option(
            "--jobs",
            type=WholeRange(1, MAX_JOBS),
            help="Run so many cells of different peers at the same time, each in a process of its own "
            f"[1; quick: {QUICK_JOBS}].",
        ),
        click.option("--repeat", type=WholeRange(1, 1000), default=1, help="Run each so many times."),
        click.option("--seed", type=int, default=1, help="Of the networks' losses and delays."),
        click.option("--netns", is_flag=True, help="Run in a network namespace of its own (Linux, root)."),
    ):
        command = option(command)
    return command


class Harness(click.Group):
    """The commands; a peer or a scenario in the place of one is told where it goes."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name = args[0]
        if name not in self.commands and (name in PEERS or name in SCENARIOS):
            kind = "peer" if name in PEERS else "scenario"
            raise click.UsageError(f"{name!r} is no command but a {kind}: `run {shlex.join(args)}` runs it")
        return super().resolve_command(ctx, args)


@click.group(cls=Harness, invoke_without_command=True, help=HELP)
@click.option("--list", "show", is_flag=True, help="List peers and scenarios.")
@click.pass_context
def main(context: click.Context, show: bool) -> None:
    if show:
        print_list(PEERS.values(), SCENARIOS.values())
    elif context.invoked_subcommand is None:
        click.echo(context.get_help())


@main.command(short_help="Run peers and scenarios; with --target, a server of yours.")
@click.argument("names", nargs=-1, metavar="[PEER …] [SCENARIO …]")
@click.option("--target", metavar="URL", help="A server to be called: WHIP, /api/offer or Realtime calls.")
@click.option(
    "--echoes",
    type=click.Choice(["sound", "all"]),
    default=None,
    help="The target returns sound, or all: messages as well; hold it to that.",
)
@click.option("--token", default="", help="Sent to the target as `Authorization: Bearer`.")
@click.option(
    "--go-on", is_flag=True, help="Try every scenario of a target whose first calls fail in the same way."
)
@_options
def run(
    names: tuple[str, ...], target: str | None, echoes: Echoes | None, token: str, go_on: bool, **options: Any
) -> None:
    """Run some peers and scenarios: all those not named otherwise, but for the long ones."""
    peers, scenarios = chosen(names)
    if target is None and (echoes or token or go_on):
        raise click.UsageError("--echoes, --token and --go-on are about a --target")
    picked = [SCENARIOS[name] for name in scenarios or SCENARIOS if scenarios or not SCENARIOS[name].is_long]
    if target is None:
        pairs = pairs_of([PEERS[name] for name in peers or PEERS])
    else:
        if not target.lower().startswith(("http://", "https://")):
            raise click.UsageError(f"{target!r} is not an http:// or https:// address")
        try:
            is_here = is_loopback(target)
            parts, shown = urlsplit(target), without_credentials(target)
            _ = parts.port  # raises for one that cannot be
        except ValueError as error:
            raise UnusableError(f"--target: {target!r} is no address: {error}") from error
        if parts.username is not None and token:
            raise UnusableError("--token: the URL has a name and a password; a server is sent one or the other")
        if is_here and options["netns"]:
            raise UnusableError(f"--netns: {shown} is on the loopback of this machine, which is not in there")
        clients = [PEERS[name] for name in peers or (OURS, "chromium", "firefox")]
        pairs = target_pairs(Target(target, echoes or "", token), clients)
    _go(pairs, picked, go_on=go_on, **options)


@main.command(short_help="Run a few scenarios of each kind with common peers.")
@click.argument("names", nargs=-1, metavar="[PEER …]")
@_options
def quick(names: tuple[str, ...], **options: Any) -> None:
    """Run a few scenarios of each kind, with the peers that most machines have or those that are named."""
    peers, scenarios = chosen(names)
    if scenarios:
        raise click.UsageError(f"{', '.join(scenarios)}: `run` takes scenarios, `quick` has its own")
    there = [PEERS[name] for name in peers or QUICK_PEERS if peers or PEERS[name].why_absent() is None]
    options["jobs"] = options["jobs"] or QUICK_JOBS
    _go(pairs_of(there), [each for each in SCENARIOS.values() if each.is_quick], **options)


@main.command("all")
@_options
def everything(**options: Any) -> None:
    """Run every scenario with every peer."""
    _go(pairs_of(list(PEERS.values())), list(SCENARIOS.values()), **options)


def _go(
    pairs: Sequence[Pair],
    scenarios: Sequence[Any],
    *,
    json_file: Path | None,
    junit: Path | None,
    html: Path | None,
    against: Path | None,
    keep: Path | None,
    update: Path | None,
    again: bool,
    jobs: int | None,
    repeat: int,
    seed: int,
    netns: bool,
    go_on: bool = False,
) -> None:
    if against is not None and html is None:
        raise click.UsageError("--against shows a former run in the report: it needs --html")
    former, updated = _read_former("--against", against), _read_former("--update", update)
    if again and updated is None:
        raise click.UsageError("--again takes up a former run: it needs --update")
    check_files({"--json": json_file, "--junit": junit, "--html": html})
    check_folder(keep)
    done = settled(updated) if again else frozenset[tuple[str, str]]()
    plan = Plan(pairs, scenarios, repeat, seed, keep, done, first_calls=FirstCalls(go_on))
    progress = Progress(len(plan))
    network: AbstractContextManager[Any] = addressed_namespace() if netns else nullcontext()
    with network as problem:
        if netns and problem is not None:
            raise click.ClickException(f"--netns: {problem}")
        _probe_targets(pairs)
        with Interruption() as interruption:
            status = _run(plan, progress, jobs or 1, interruption)
            progress.close()
            results = as_json(plan.cells, progress.seconds)
            if updated is not None:
                results = merged(updated, results, [pair.label for pair in pairs_of(list(PEERS.values()))])
            unwritten = _write(
                [
                    ("--json", json_file, lambda: json.dumps(results, indent=1)),
                    ("--junit", junit, lambda: as_junit(results)),
                    ("--html", html, lambda: page(results, former)),
                ]
            )
            _summary(plan)
    if status:
        sys.exit(status)
    if unwritten or any(cell.verdict.outcome.is_red for cell in plan.cells):
        sys.exit(1)
    if plan.cells and all(cell.verdict.outcome in NOTHING_TRIED for cell in plan.cells):
        raise click.ClickException("nothing was tried: all that was asked for is absent or unsupported")


def _write(made: Sequence[tuple[str, Path | None, Callable[[], str]]]) -> list[str]:
    """Write each file that is asked for; return the options whose file could not be."""
    unwritten = []
    for option, file, text in made:
        try:
            if file is not None:
                write_file(file, text())
        except OSError as error:
            unwritten.append(option)
            click.echo(f"Error: {option}: {file} cannot be written: {reason(error)}", err=True)
        else:
            if file is not None and option == "--html":
                click.echo(f"report: {file.resolve().as_uri()}")
    return unwritten


def _probe_targets(pairs: Sequence[Pair]) -> None:
    """See that a --target which is about to be called is there at all."""
    called = [pair.server for pair in pairs if pair.client.why_absent() is None]
    for server in {each.url: each for each in called if isinstance(each, Target)}.values():
        why = asyncio.run(probe(server.url, server.token))
        if why is not None:
            raise UnusableError(f"--target: {without_credentials(server.url)} cannot be called: {why}")


def _run(plan: Plan, progress: Progress, jobs: int, interruption: Interruption) -> int:
    """Run the plan; return the exit status of a run that ended before it was done, or 0."""
    try:
        if jobs > 1:
            run_side_by_side(plan, progress.note, jobs)
        else:
            asyncio.run(run_plan(plan, progress.note))
    except KeyboardInterrupt:
        interruption.over()
        click.echo("\ninterrupted: what was run is reported", err=True)
        return 128 + interruption.number
    except Exception as error:
        interruption.over()
        click.echo(f"\nthe harness failed, and what was run is reported: {innermost(error)!r}", err=True)
        return 1
    interruption.over()
    return 0


def _read_former(option: str, file: Path | None) -> Any:
    if file is None:
        return None
    try:
        return read_results(file)
    except (ValueError, OSError) as error:
        raise UnusableError(f"{option}: {file} is no result of --json: {reason(error)}") from error


def settled(former: Any) -> frozenset[tuple[str, str]]:
    """The cells of a former run of which none is red or was not tried."""
    every = {(cell["pair"], cell["scenario"]) for cell in former["cells"]}
    outcomes = [(cell, Outcome[str(cell["outcome"]).upper()]) for cell in former["cells"]]
    left = {
        (cell["pair"], cell["scenario"])
        for cell, outcome in outcomes
        if outcome.is_red or outcome is Outcome.UNTRIED
    }
    return frozenset(every - left)


def _summary(plan: Plan) -> None:
    cells = plan.cells
    tried = [cell for cell in cells if cell.verdict.outcome is not Outcome.UNTRIED]
    if len({(cell.pair, cell.scenario) for cell in tried}) > 1:
        _show_matrix(cells)
    counts = {outcome: sum(cell.verdict.outcome is outcome for cell in cells) for outcome in Outcome}
    click.echo(", ".join(f"{count} {outcome.counted(count)}" for outcome, count in counts.items() if count))
    untried = [cell for cell in cells if cell.verdict.outcome is Outcome.UNTRIED]
    for why in dict.fromkeys(cell.verdict.sentence for cell in untried):
        left = [cell.pair for cell in untried if cell.verdict.sentence == why]
        of = list(dict.fromkeys(left))
        click.echo(f"not tried, {', '.join(of) if len(of) < 4 else f'{len(of)} pairs'} ({len(left)}): {why}")
    ran = {cell.pair for cell in cells}
    peers = {peer.name: peer for pair in plan.pairs if pair.label in ran for peer in (pair.client, pair.server)}
    absent = [name for name, peer in peers.items() if peer.why_absent() is not None]
    if absent:
        click.echo(f"absent, and nothing of it has passed: {', '.join(absent)}")


def _show_matrix(cells: Sequence[Cell]) -> None:
    width = shutil.get_terminal_size(fallback=(100, 24)).columns
    for line in matrix(cells, width):
        try:
            line.encode(sys.stdout.encoding or "ascii")
        except UnicodeEncodeError:
            line = plain(line)
        click.echo(line)


@main.command()
@click.argument("names", nargs=-1, required=True, metavar="PEER …")
def setup(names: tuple[str, ...]) -> None:
    """Fetch or build peers."""
    peers, scenarios = chosen(names)
    if scenarios:
        raise click.UsageError(f"{', '.join(scenarios)}: a scenario needs no setup")
    for name in peers:
        peer = PEERS[name]
        why = peer.why_absent()
        if why is None:
            click.echo(f"{name}: is there ({peer.version() or 'version unknown'})")
            continue
        if not peer.needs.setup:
            raise click.ClickException(f"{name}: {why}. It needs: {peer.needs.what}")
        for command in peer.needs.setup:
            if shutil.which(command[0]) is None:
                raise click.ClickException(f"{name}: there is no {command[0]} here. It needs: {peer.needs.what}")
            click.echo(" ".join(command))
            if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
                raise click.ClickException(f"{name}: {' '.join(command)} failed")
        why = peer.why_absent()
        if why is not None:
            raise click.ClickException(f"{name}: is still absent: {why}")
        click.echo(f"{name}: is there ({peer.version() or 'version unknown'})")


@main.command()
@click.option("--host", default="127.0.0.1", help="The address that HTTP listens on.")
@click.option("--port", type=WholeRange(0, 65_535), default=8088, help="0 picks a free one.")
@click.option("--keep", type=Place(path_type=Path, file_okay=False), help="Keep the evidence of each call.")
def serve(host: str, port: int, keep: Path | None) -> None:
    """Serve WHIP and a page that judges each client which calls, live."""
    from interop.judging_server import serve_until_stopped

    check_folder(keep)
    try:
        with Interruption():
            asyncio.run(serve_until_stopped(host, port, keep))
    except KeyboardInterrupt:
        click.echo("")
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host} port {port}: {error.strerror or error}") from error


def command_line() -> NoReturn:
    """Run the command line of this process, and end it."""
    speak_to_whatever_listens()
    run_command(main, "python -m interop")
