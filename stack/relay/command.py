"""The command `relay`: its options, checked before anything starts."""

from __future__ import annotations

import re
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click

from stack.core.errors import LocalError, ParseError
from stack.core.machine import Address
from stack.relay.edge import RelayConfig, own_addresses, run_relay
from stack.relay.machine import RelaySettings
from stack.relay.node_list import NodeFeed, read_node

_PORT = click.IntRange(0, 65_535)


def _option(name: str, **settings: Any) -> click.Option:
    envvar = "VOICE_STACK_" + name.lstrip("-").replace("-", "_").upper()
    return click.Option([name], envvar=envvar, show_envvar=True, show_default=True, **settings)


def _ip(_context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
    for text in value if isinstance(value, tuple) else () if value is None else (value,):
        try:
            ip_address(text)
        except ValueError as error:
            raise click.BadParameter(f"{text!r} is not an IP address") from error
    return value


def _region(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{0,64}", value):
        raise click.BadParameter(f"{value!r} is no name: letters, digits, _ and -, up to 64")
    return value


def _nodes(_context: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> dict[str, Address]:
    found: dict[str, Address] = {}
    for text in value:
        try:
            part, address = read_node(text)
        except ParseError as error:
            raise click.BadParameter(str(error)) from error
        if part in found:
            raise click.BadParameter(f"node {part!r} is there twice")
        found[part] = address
    return found


def _relay(**options: Any) -> None:
    """Forward media between clients and nodes that they do not reach: by the node part of the ICE username
    fragment, then by flow. Nodes are those of --node, and those that NATS tells of.
    """
    if not options["node"] and not options["nats"]:
        raise click.UsageError("a relay needs --node PART=HOST:PORT, or --nats URL to learn its nodes from")
    if options["nats_creds"] is not None and not options["nats"]:
        raise click.UsageError("--nats-creds does nothing without --nats")
    if options["nats"] and find_spec("nats") is None:
        raise LocalError("nodes are learned from NATS by nats-py: pip install 'voice-stack[cluster]'")
    is_ipv6 = ":" in options["inner"]
    for part, address in options["node"].items():
        if address.is_ipv6 != is_ipv6:
            raise click.UsageError(f"node {part} at {address} is not of the family of --inner {options['inner']}")
    hosts = options["media_host"] or ((options["host"],) if options["host"] else own_addresses())
    for host in hosts:
        if ip_address(host).is_unspecified:
            raise click.UsageError(f"{host}: name the addresses themselves, each is answered from (--media-host)")
    try:
        RelaySettings(tuple(Address(host, 0) for host in hosts), options["inner"], options["first_port"],
                      options["max_flows"])  # fmt: skip
    except LocalError as error:
        raise click.UsageError(f"--first-port, --max-flows: {error}") from error
    flows = Path(options["flows"]) if options["flows"] is not None else None
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
    kept = flows.with_name(flows.name + ".nodes") if flows is not None and options["nats"] else None
    feed = NodeFeed([*options["nats"], *creds, *family], options["node"], kept)
    run_relay(config, feed, bool(options["nats"]))


relay = click.Command(
    "relay",
    callback=_relay,
    help=_relay.__doc__,
    context_settings={"help_option_names": ["-h", "--help"]},
    params=[
        _option(
            "--node", multiple=True, callback=_nodes,
            help="A node, as n1=192.0.2.7:3478: its name in tickets. [repeat]",
        ),
        _option("--nats", multiple=True, help="URL of a NATS server, which tells of the nodes. [repeat]"),
        _option("--nats-creds", default=None, type=click.Path(dir_okay=False), help="File of NATS credentials."),
        _option("--region", default="", callback=_region, help="Where this machine is; a label of the metrics."),
        _option(
            "--host", default=None, callback=_ip,
            help="Address for HTTP and clients. Without it: 127.0.0.1 for HTTP.",
        ),
        _option(
            "--media-host", multiple=True, callback=_ip,
            help="Address that clients send to; default: this machine's. [repeat]",
        ),
        _option("--udp-port", default=3478, type=_PORT, help="Port that clients send to."),
        _option("--inner", default="0.0.0.0", callback=_ip, help="Address from which nodes are spoken to."),
        _option("--first-port", default=20_000, type=click.IntRange(1, 65_535), help="First port towards nodes."),
        _option("--max-flows", default=4096, type=click.IntRange(1), help="Flows at once, a port each."),
        _option(
            "--flows", default=None, type=click.Path(dir_okay=False),
            help="File that keeps the flows, for a relay that is started again.",
        ),
        _option("--http-host", default=None, callback=_ip, help="Address for /metrics, /livez and /readyz alone."),
        _option("--port", default=8080, type=_PORT, help="HTTP port."),
        _option(
            "--drain-seconds", default=0.0, type=click.FloatRange(0, 86_400),
            help="For flows to end after SIGTERM.",
        ),
    ],
)  # fmt: skip
