"""The options of a relay: one table, and what is made of what was given.

`stack.relay.command` makes a command of the table, with libraries that take as long to load as all the rest of a
relay. So a command line without a mistake is read here (`read`), and what is unusual in any way, help and
mistakes among them, is left to the command. Both end in `configure`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from stack.core.errors import LocalError, ParseError
from stack.core.machine import Address
from stack.relay.edge import RelayConfig, own_addresses
from stack.relay.machine import RelaySettings
from stack.relay.node_list import NodeFeed, read_host, read_node

MAX_PORT = 65_535
MAX_DRAIN = 86_400.0
"""Seconds."""
_NATS = re.compile(r"(nats|tls|ws|wss)://([^\s/@]+@)?(\[[0-9A-Fa-f:.]+\]|[^\s/@:\[\]]+)(:[0-9]{1,5})?/?[^\s@]*")
_REGION = re.compile(r"[A-Za-z0-9_-]{0,64}")
_PREFIX = "VOICE_STACK_"

Kind: TypeAlias = Literal["nats", "node", "ip", "region", "file", "port", "positive_port", "count", "seconds"]


class OptionError(LocalError):
    """Options that do not go together."""


class Option(NamedTuple):
    """One option, as it is written and as it is told of."""

    name: str
    kind: Kind
    default: str | int | float | None
    help: str
    is_many: bool = False

    @property
    def key(self) -> str:
        """Its name in a mapping."""
        return self.name.lstrip("-").replace("-", "_")

    @property
    def variable(self) -> str:
        """The variable of the environment that sets it as well."""
        return _PREFIX + self.key.upper()


OPTIONS: Sequence[Option] = (
    Option("--node", "node", None, "A node, as n1=192.0.2.7:3478: its name in tickets. [repeat]", True),
    Option("--nats", "nats", None, "URL of a NATS server, which tells of the nodes. [repeat]", True),
    Option("--nats-creds", "file", None, "File of NATS credentials."),
    Option("--region", "region", "", "Where this machine is; a label of the metrics."),
    Option("--host", "ip", None, "Address for HTTP and clients. Without it: 127.0.0.1 for HTTP."),
    Option("--media-host", "ip", None, "Address that clients send to; default: this machine's. [repeat]", True),
    Option("--udp-port", "port", 3478, "Port that clients send to."),
    Option("--inner", "ip", "0.0.0.0", "Address from which nodes are spoken to."),
    Option("--first-port", "positive_port", 20_000, "First port towards nodes."),
    Option("--max-flows", "count", 4096, "Flows at once, a port each."),
    Option("--flows", "file", None, "File that keeps the flows, for a relay that is started again."),
    Option("--http-host", "ip", None, "Address for /metrics, /livez and /readyz alone."),
    Option("--port", "port", 8080, "HTTP port."),
    Option("--drain-seconds", "seconds", 0.0, "For flows to end after SIGTERM."),
)
_BY_NAME = {option.name: option for option in OPTIONS}


# -- values ------------------------------------------------------------------------------------------------------


def check_ip(text: str) -> str:
    """Return the text of an IP address; raises `ParseError` for another."""
    try:
        read_host(text)
    except ParseError:
        raise ParseError(f"{text!r} is not an IP address") from None
    return text


def check_nats(text: str) -> str:
    """Return the URL of a NATS server; raises `ParseError` for another."""
    found = _NATS.fullmatch(text)
    if found is None or not 0 < int((found[4] or ":4222")[1:]) <= MAX_PORT:
        shown = re.sub(r"//.*@", "//", text)  # it may have a password in it
        raise ParseError(f"{shown!r} is not the URL of a NATS server, as nats://127.0.0.1:4222")
    return text


def check_credentials(file: str | None) -> None:
    """Raise `LocalError` for a file of NATS credentials that cannot be read."""
    if file is not None:
        try:
            with open(file, "rb"):
                pass
        except OSError as error:
            raise LocalError(f"cannot read the NATS credentials in {file}: {error.strerror}") from error


def check_region(text: str) -> str:
    """Return a name that can be a label; raises `ParseError` for another."""
    if not _REGION.fullmatch(text):
        raise ParseError(f"{text!r} is no name: letters, digits, _ and -, up to 64")
    return text


def read_nodes(texts: Sequence[str]) -> dict[str, Address]:
    """Return addresses by node part; raises `ParseError` for what is no node, or is there twice."""
    found: dict[str, Address] = {}
    for text in texts:
        part, address = read_node(text)
        if part in found:
            raise ParseError(f"node {part!r} is there twice")
        found[part] = address
    return found


def _number(text: str, low: int, high: int | None) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ParseError(f"{text!r} is no number")
    number = int(text)
    if number < low or (high is not None and number > high):
        raise ParseError(f"{number} is out of range")
    return number


def _value(kind: Kind, text: str) -> Any:
    match kind:
        case "ip":
            return check_ip(text)
        case "region":
            return check_region(text)
        case "port":
            return _number(text, 0, MAX_PORT)
        case "positive_port":
            return _number(text, 1, MAX_PORT)
        case "count":
            return _number(text, 1, None)
        case "seconds":
            seconds = float(text)
            if not 0 <= seconds <= MAX_DRAIN:
                raise ParseError(f"{text} is out of range")
            return seconds
        case "file":
            if not text or os.path.isdir(text):
                raise ParseError(f"{text!r} is no file")
            return text
        case "nats":
            return check_nats(text)
        case "node":
            return text


# -- a command line ----------------------------------------------------------------------------------------------


def read(arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the values by key, as the command would read them; None for all that is not `--name value`."""
    given: dict[str, list[str]] = {}
    rest = iter(arguments)
    for argument in rest:
        name, equals, text = argument.partition("=")
        option = _BY_NAME.get(name)
        value = text if equals else next(rest, None)
        if option is None or value is None or (not equals and value.startswith("-")):
            return None
        given.setdefault(option.key, []).append(value)
    for option in OPTIONS:
        text = environment.get(option.variable, "")
        if text and option.key not in given:
            given[option.key] = text.split() if option.is_many else [text]
    found: dict[str, Any] = {}
    try:
        for option in OPTIONS:
            values: list[Any] = [_value(option.kind, text) for text in given.get(option.key, ())]
            if option.kind == "node":
                found[option.key] = read_nodes(values)
            elif option.is_many:
                found[option.key] = tuple(values)
            else:
                found[option.key] = values[-1] if values else option.default
    except (ParseError, ValueError):
        return None
    return found


class RelayCommand(NamedTuple):
    """What is run: what `run_relay` is given."""

    config: RelayConfig
    new_feed: Callable[[], NodeFeed]
    follows: bool


def configure(options: Mapping[str, Any]) -> RelayCommand:
    """Return what is to be run. Raises `OptionError` for options that do not go together, `LocalError` without
    the client of NATS where it is needed.
    """
    if not options["node"] and not options["nats"]:
        raise OptionError("a relay needs --node PART=HOST:PORT, or --nats URL to learn its nodes from")
    if options["nats_creds"] is not None and not options["nats"]:
        raise OptionError("--nats-creds does nothing without --nats")
    check_credentials(options["nats_creds"])
    if options["nats"]:
        from importlib.util import find_spec

        if find_spec("nats") is None:
            raise LocalError("nodes are learned from NATS by nats-py: pip install 'voice-stack[cluster]'")
    is_ipv6 = ":" in options["inner"]
    for part, address in options["node"].items():
        if address.is_ipv6 != is_ipv6:
            raise OptionError(f"node {part} at {address} is not of the family of --inner {options['inner']}")
    hosts = options["media_host"] or ((options["host"],) if options["host"] else own_addresses())
    for host in hosts:
        if not any(read_host(host)):
            raise OptionError(f"{host}: name the addresses themselves, each is answered from (--media-host)")
    try:
        RelaySettings(
            tuple(Address(host, 0) for host in hosts),
            options["inner"],
            options["first_port"],
            options["max_flows"],
        ).check()
    except LocalError as error:
        raise OptionError(f"--first-port, --max-flows: {error}") from error
    flows: str | None = options["flows"]
    config = RelayConfig(
        hosts=tuple(hosts),
        port=options["udp_port"],
        inner_host=options["inner"],
        first_port=options["first_port"],
        max_flows=options["max_flows"],
        flows=flows,
        region=options["region"],
        http_host=options["http_host"] or options["host"] or "127.0.0.1",
        http_port=options["port"],
        drain_seconds=options["drain_seconds"],
    )
    creds = ["--nats-creds", options["nats_creds"]] if options["nats_creds"] is not None else []
    family = ["--ipv6"] if is_ipv6 else []
    kept = f"{flows}.nodes" if flows is not None and options["nats"] else None
    arguments = [*options["nats"], *creds, *family]
    return RelayCommand(config, lambda: NodeFeed(arguments, options["node"], kept), bool(options["nats"]))
