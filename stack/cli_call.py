"""The command `call`: it calls a server as a client does, and reports how the call went."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import click

from stack.cli_checks import BEARER, CALLED, GATHERED_FROM, check_environment, check_together
from stack.cli_types import FILE, FiniteRange
from stack.ice.gathering import TransportPolicy
from stack.signaling.caller import CallerConfig, place_call, render
from stack.signaling.client import TokenRefused

_NEEDS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], bool]]] = dict.fromkeys(
    ("ice_user", "ice_password"),
    (
        "--ice-server with a TURN server",
        lambda options: any(uri.startswith("turn") for uri in options["ice_server"]),
    ),
)


@click.command()
@click.argument("url", callback=CALLED)
@click.option("--play", default=None, type=FILE, help="Speak this WAV file (16-bit PCM).")
@click.option("--record", default=None, type=FILE, help="Write what is heard to this WAV file.")
@click.option("--duration", default=None, type=FiniteRange(0.1, 86400), help="Seconds; default: the file and 1 s.")
@click.option("--dtls", default=None, type=click.Choice(["1.2", "1.3"]), help="Offer this version only.")
@click.option("--pcap", default=None, type=FILE, help="Write every datagram to this file.")
@click.option("--key-log", default=None, type=FILE, help="Add the call's keys to this file.")
@click.option(
    "--token",
    default=None,
    show_envvar=True,
    callback=BEARER,
    help="Bearer token, for a server that asks for one.",
)
@click.option(
    "--ticket",
    default=None,
    type=FILE,
    help="Keep the server's ticket for the next call in this file, and call by the one that is there.",
)
@click.option("--insecure", is_flag=True, help="Take any certificate of a server, e.g. a self-made one.")
@click.option(
    "--ice-server",
    multiple=True,
    callback=GATHERED_FROM,
    help="STUN or TURN server to gather from: stun:HOST, turn:HOST?transport=tcp, turns:HOST. [repeat]",
)
@click.option("--ice-user", default="", help="User name for the TURN servers.")
@click.option("--ice-password", default="", show_envvar=True, help="Password for the TURN servers.")
@click.option(
    "--ice-transport",
    default="all",
    type=click.Choice([policy.value for policy in TransportPolicy]),
    help="Which candidates of ours there may be; relay: none that shows our address.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def call(as_json: bool, **options: Any) -> None:
    """Call a server at URL and report how the call went; exit code 1: no call, or its program failed."""
    check_environment()
    check_together(click.get_current_context(), _NEEDS)
    without = [uri for uri in options["ice_server"] if uri.startswith("turn") and "@" not in uri]
    if without and not (options["ice_user"] and options["ice_password"]):
        raise click.UsageError(f"--ice-server {without[0]} needs --ice-user NAME and --ice-password PASSWORD")
    if options["token"] is not None and "@" in urlsplit(options["url"]).netloc:
        raise click.UsageError("--token does nothing beside the user in the URL: one of both is sent")
    config = CallerConfig(**options)
    try:
        report = asyncio.run(_until_interrupted(config))
    except TokenRefused as refused:
        if config.token is not None or not sys.stdin.isatty():
            raise click.ClickException(f"{refused} (call --token TOKEN)") from refused
        token = click.prompt("This server asks for a token", hide_input=True, err=True)
        report = asyncio.run(_until_interrupted(replace(config, token=token)))
    click.echo(json.dumps(report, indent=2) if as_json else render(report))
    if report["program_failed"]:
        raise click.ClickException("the program failed; the log of the server says why")


async def _until_interrupted(config: CallerConfig) -> dict[str, Any]:
    """Place the call; Ctrl-C and SIGTERM end it in an orderly way and the report is still printed."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(name, stop.set)
        except NotImplementedError:  # Windows
            break
    return await place_call(config, stop)
