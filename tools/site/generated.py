"""The parts of the reference that are read from the code when the site is built."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import click

from stack.cli import cli

MARK = re.compile(r"<!-- generated: ([\w-]+) -->")


def command_line() -> str:
    """Return every command with its options, as click knows them."""
    parts = []
    context = click.Context(cli, info_name="python -m stack")
    for name in cli.list_commands(context):
        command = cli.commands[name]
        inner = click.Context(command, info_name=name, parent=context)
        words = " ".join(command.collect_usage_pieces(inner))
        help_text = re.sub(r"(?<!\n)\n(?!\n)", " ", command.help or "")
        parts.append(
            f"## {name}\n\n    python -m stack {name} {words}\n\n{help_text}\n\n{_options(command, inner)}"
        )
    return "\n\n".join(parts)


def _options(command: click.Command, context: click.Context) -> str:
    rows = []
    for parameter in command.get_params(context):
        if not isinstance(parameter, click.Option):
            continue
        names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
        kind = "" if parameter.is_flag or parameter.count else f" *{_kind(parameter, context)}*"
        rows.append(f"| {names}{kind} | {_cell(parameter.help or '')} | {_default(parameter)} |")
    return "\n".join(["| Option | | Default |", "|---|---|---|", *rows])


def _kind(option: click.Option, context: click.Context) -> str:
    if isinstance(option.type, click.Choice):
        return _cell(" | ".join(str(choice) for choice in option.type.choices))
    return option.make_metavar(context).strip("[]").lower()


def _default(option: click.Option) -> str:
    default = option.default
    if (
        option.is_flag
        or option.count
        or default is None
        or not isinstance(default, str | int | float | list | tuple)
    ):
        return ""
    shown = " ".join(default) if isinstance(default, list | tuple) else str(default)
    return f"`{shown}`" if shown else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def variables() -> Iterator[tuple[str, str, str]]:
    """Yield name, option and meaning of every variable that an option of `serve` reads."""
    for parameter in cli.commands["serve"].params:
        if isinstance(parameter, click.Option) and isinstance(parameter.envvar, str):
            yield parameter.envvar, parameter.opts[0], parameter.help or ""


def environment() -> str:
    """Return a table of the variables that stand for options."""
    rows = [f"| `{name}` | `{option}` | {_cell(text)} |" for name, option, text in variables()]
    return "\n".join(["| Variable | Option | |", "|---|---|---|", *rows])


PARTS: dict[str, Callable[[], str]] = {"command-line": command_line, "environment": environment}


def fill(page: str) -> str:
    """Return a page with what is generated in it; `KeyError` for a name that there is not."""
    return MARK.sub(lambda match: PARTS[match[1]](), page)
