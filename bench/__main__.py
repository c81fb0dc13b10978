"""`python -m bench`: list and run the benchmarks of this package."""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from bench._plot import svg
from bench._progress import say
from bench.report import BadOption, Options, Table, add_scale, add_seed, as_json
from interop.arguments import OneLineParser, whole
from stack.core.errors import LocalError
from stack.core.ufrag import MAX_WORKERS

MAX_CALLS = 10_000
MAX_RTT = 60_000
"""Milliseconds: what the model of a network takes."""
_NOT_BENCHMARKS = {"report"}
TAKE_COMMITS = {"first_call"}
"""Benchmarks whose `--against` is more than a folder: they read it themselves."""


def discover() -> dict[str, str]:
    """Return the benchmarks by name, with the first line of what each says about itself. Imports none of them."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if not path.stem.startswith("_") and path.stem not in _NOT_BENCHMARKS:
            described = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
            found[path.stem] = described.partition("\n")[0]
    return found


def _folder(text: str) -> Path:
    """Read a folder to write into, and make it."""
    try:
        Path(text).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error.strerror}") from None
    return Path(text)


def _numbers(least: float, most: float) -> Callable[[str], tuple[float, ...]]:
    """Return what reads numbers with commas between them."""

    def read(text: str) -> tuple[float, ...]:
        try:
            numbers = tuple(float(part) for part in text.split(","))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not numbers with commas between them") from None
        for number in numbers:
            if not least <= number <= most:
                raise argparse.ArgumentTypeError(f"{number:g} is not between {least:g} and {most:g}")
        if len(set(numbers)) < len(numbers):
            raise argparse.ArgumentTypeError(f"{text!r} has a number twice")
        return numbers

    return read


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    known = discover()
    parser = OneLineParser(prog="python -m bench", description="Ours and a peer's, in the same run.")
    parser.add_argument("name", nargs="*", metavar="NAME", help="which benchmark: " + ", ".join(known))
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    parser.add_argument("--json", action="store_true", help="print JSON, one object to a benchmark and line")
    add_scale(parser)
    add_seed(parser)
    parser.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="DIR",
        help="other checkouts of ours, under load; commits, too (first_call)",
    )
    parser.add_argument(
        "--calls", type=whole(1, MAX_CALLS), nargs="+", default=[], metavar="N", help="how many calls, under load"
    )
    parser.add_argument("--realtime", action="store_true", help="run before other processes, under load (root)")
    parser.add_argument(
        "--workers",
        type=whole(1, MAX_WORKERS),
        nargs="+",
        default=[],
        metavar="N",
        help="media workers of ours, beside its thread",
    )
    parser.add_argument(
        "--forwarder", action="store_true", help="several workers: a process in front forwards, as on macOS"
    )
    parser.add_argument(
        "--plot", type=_folder, metavar="DIR", help="draw the tables that have a chart, as SVG, into a folder"
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="recordings to listen to: instead of our own (hearing), or beside (endpointing)",
    )
    parser.add_argument("--rooms", metavar="DIR", help="measured impulse responses, as WAV files (bargein)")
    parser.add_argument(
        "--rtt", type=_numbers(0, MAX_RTT), default=(0.0,), metavar="MS,…", help="round trips (setup)"
    )
    parser.add_argument("--loss", type=_numbers(0, 100), default=(0.0,), metavar="%%,…", help="losses (setup)")
    parser.add_argument("--client", nargs="+", default=[], metavar="NAME", help="only these clients (setup)")
    parser.add_argument(
        "--server", nargs="+", default=[], metavar="NAME", help="only these servers (setup), designs (world)"
    )
    parser.add_argument("--trace", metavar="FILE", help="packets of a real network: lines of sent,arrived (sound)")
    parser.add_argument("--verbose", action="store_true", help="say each run as it ends, under load")
    chosen = parser.parse_args(arguments)
    if not chosen.name and not chosen.list and (arguments or sys.argv[1:]) not in ([], ["--json"]):
        parser.error("which benchmark? Its name stands before the options, as in bench setup --client aiortc")
    if chosen.list or not chosen.name:
        width = max(map(len, known), default=0)
        for name, described in known.items():
            print(f"{name.ljust(width)}  {described}")
        return 0
    unknown = [name for name in chosen.name if name not in known]
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(known)}")
    if set(chosen.name) - TAKE_COMMITS:
        for folder in chosen.against:
            if not (Path(folder) / "stack").is_dir():
                parser.error(f"argument --against: there is no `stack` in {folder}")
    if chosen.data is not None and not Path(chosen.data).is_dir():
        parser.error(f"no such folder: {chosen.data}")
    if chosen.rooms is not None and not Path(chosen.rooms).is_dir():
        parser.error(f"no such folder: {chosen.rooms}")
    if chosen.trace is not None and not Path(chosen.trace).is_file():
        parser.error(f"no such file: {chosen.trace}")
    if chosen.forwarder and "kills" not in chosen.name and not any(number > 1 for number in chosen.workers):
        parser.error("--forwarder is for several workers: --workers 2")
    options = Options(
        chosen.scale,
        chosen.seed,
        tuple(chosen.against),
        tuple(chosen.calls),
        chosen.realtime,
        chosen.verbose,
        tuple(chosen.workers),
        chosen.data,
        chosen.rtt,
        chosen.loss,
        tuple(chosen.client),
        tuple(chosen.server),
        chosen.trace,
        chosen.forwarder,
        chosen.rooms,
    )
    for name in chosen.name:
        if len(chosen.name) > 1:
            say(name)
        try:
            result = import_module(f"bench.{name}").run(options)
        except BadOption as error:
            parser.exit(2, f"bench: {name}: {error}\n")
        except LocalError as error:  # a folder or a file that was named cannot be used
            parser.exit(2, f"bench: {error}\n")
        tables = [result] if isinstance(result, Table) else list(result)
        if chosen.plot is not None:
            _plot(chosen.plot, name, tables)
        if chosen.json:
            print(json.dumps(as_json(name, options, tables)))
        else:
            print("\n\n".join(table.text() for table in tables))
    return 0


def _plot(folder: Path, name: str, tables: list[Table]) -> None:
    """Write NAME.svg for the first table that has a chart and figures, NAME-2.svg for the second."""
    drawn = [svg(table) for table in tables if table.chart is not None and table.rows]
    for number, picture in enumerate(drawn, 1):
        (folder / (f"{name}.svg" if number == 1 else f"{name}-{number}.svg")).write_text(picture, "utf-8")


def run_command(arguments: list[str] | None = None) -> int:
    """Run the command line; Ctrl-C is one line, and the exit status 130."""
    try:
        return main(arguments)
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(run_command())
