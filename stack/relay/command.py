"""The command `relay`: help, and what is wrong with a command line, in the words of the other commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from stack.cli_types import FILE, FiniteRange, WholeRange
from stack.core.errors import ParseError
from stack.relay.options import (
    MAX_DRAIN,
    MAX_PORT,
    OPTIONS,
    Kind,
    Option,
    OptionError,
    check_ip,
    check_nats,
    check_region,
    configure,
    read_nodes,
)
from stack.relay.supervisor import run_relay

_TYPES: dict[Kind, click.ParamType[Any]] = {
    "file": FILE,
    "port": WholeRange(0, MAX_PORT),
    "positive_port": WholeRange(1, MAX_PORT),
    "count": WholeRange(1),
    "seconds": FiniteRange(0, MAX_DRAIN),
}


def _checked(check: Callable[[Any], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def callback(_context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
        try:
            return check(value)
        except ParseError as error:
            raise click.BadParameter(str(error)) from error

    return callback


def _check_ips(value: Any) -> Any:
    for text in value if isinstance(value, tuple) else () if value is None else (value,):
        check_ip(text)
    return value


def _check_urls(value: Any) -> Any:
    for text in value:
        check_nats(text)
    return value


_CALLBACKS = {
    "ip": _checked(_check_ips),
    "nats": _checked(_check_urls),
    "region": _checked(check_region),
    "node": _checked(read_nodes),
}


def _relay(**options: Any) -> None:
    """Forward media between clients and nodes that they do not reach: by the node part of the ICE username
    fragment, then by flow. Nodes are those of --node, and those that NATS tells of.
    """
    try:
        command = configure(options)
    except OptionError as error:
        raise click.UsageError(str(error)) from error
    run_relay(*command)


def _parameter(option: Option) -> click.Option:
    return click.Option(
        [option.name],
        envvar=option.variable,
        show_envvar=True,
        show_default=True,
        multiple=option.is_many,
        default=option.default,
        type=_TYPES.get(option.kind),
        callback=_CALLBACKS.get(option.kind),
        help=option.help,
    )


relay = click.Command(
    "relay",
    callback=_relay,
    help=_relay.__doc__,
    context_settings={"help_option_names": ["-h", "--help"]},
    params=[_parameter(option) for option in OPTIONS],
)
