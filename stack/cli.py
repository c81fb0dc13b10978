"""The command line: `python -m stack serve | call | version`. It composes everything and decides nothing.

Whatever a user can get wrong ends in one clear line on stderr and a non-zero exit.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import signal
import sys
from collections.abc import Callable
from typing import Any

import click

from stack import __version__
from stack.agents import AGENTS
from stack.aio import HostConfig
from stack.core.errors import StackError
from stack.sdp import Setup
from stack.signaling import serve as serve_program
from stack.signaling.caller import CallerConfig, parse_dtls_version, place_call, render
from stack.voice.conversation import ConversationConfig


class _Commands(click.Group):
    """A group whose commands show our own errors as one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StackError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-v", "--verbose", count=True, help="Say what happens; twice: in detail.")
def cli(verbose: int) -> None:
    """A voice call between a person and a program, over protocols of our own."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")


@cli.command()
@click.option("--agent", default="echo", show_default=True, help="A name, or module:function of your own.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0: all.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="HTTP port.")
@click.option("--udp-port", default=3478, show_default=True, type=click.IntRange(0, 65535), help="Media port.")
@click.option("--public-ip", default=None, help="Address to offer when a 1:1 NAT stands in front.")
@click.option("--pcap", default=None, type=click.Path(dir_okay=False), help="Write every datagram to this file.")
@click.option("--dtls", default=None, type=click.Choice(["1.2", "1.3"]), help="Speak this version only.")
@click.option(
    "--setup", default="passive", type=click.Choice(["passive", "active"]), help="active: we begin DTLS."
)
def serve(
    agent: str,
    host: str,
    port: int,
    udp_port: int,
    public_ip: str | None,
    pcap: str | None,
    dtls: str | None,
    setup: str,
) -> None:
    """Run the server and its page."""
    program = load_agent(agent)
    logging.getLogger("stack").setLevel(min(logging.INFO, logging.getLogger().level))
    config = HostConfig(setup=Setup(setup), conversation=ConversationConfig(dtls_version=parse_dtls_version(dtls)))
    serve_program(program, host=host, port=port, udp_port=udp_port, public_ip=public_ip, pcap=pcap, config=config)


@cli.command()
@click.argument("url")
@click.option("--play", default=None, type=click.Path(dir_okay=False), help="Speak this WAV file (16-bit PCM).")
@click.option(
    "--record", default=None, type=click.Path(dir_okay=False), help="Write what is heard to this WAV file."
)
@click.option(
    "--duration", default=None, type=click.FloatRange(0.1, 86400), help="Seconds; default: the file and 1 s."
)
@click.option("--dtls", default=None, type=click.Choice(["1.2", "1.3"]), help="Offer this version only.")
@click.option("--pcap", default=None, type=click.Path(dir_okay=False), help="Write every datagram to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def call(
    url: str,
    play: str | None,
    record: str | None,
    duration: float | None,
    dtls: str | None,
    pcap: str | None,
    as_json: bool,
) -> None:
    """Call a server at URL and report how the call went."""
    config = CallerConfig(url, play=play, record=record, duration=duration, dtls=dtls, pcap=pcap)
    report = asyncio.run(_until_interrupted(config))
    click.echo(json.dumps(report, indent=2) if as_json else render(report))


@cli.command()
def version() -> None:
    """Print the version."""
    click.echo(f"voice-stack {__version__} (Python {sys.version.split()[0]})")


def load_agent(name: str) -> Callable[..., Any]:
    """Return the agent called `name`, or the one at `module:function`; raises `click.BadParameter`."""
    if name in AGENTS:
        return AGENTS[name]
    module_name, colon, function_name = name.partition(":")
    if not colon or not module_name or not function_name:
        raise click.BadParameter(
            f"{name!r} is neither one of {', '.join(sorted(AGENTS))} nor module:function", param_hint="--agent"
        )
    sys.path.insert(0, "")
    try:
        program: Callable[..., Any] = getattr(importlib.import_module(module_name), function_name)
    except ImportError as error:
        raise click.BadParameter(f"cannot import {module_name!r}: {error}", param_hint="--agent") from error
    except AttributeError as error:
        raise click.BadParameter(f"{module_name!r} has no {function_name!r}", param_hint="--agent") from error
    if not callable(program):
        raise click.BadParameter(f"{name!r} is not a function", param_hint="--agent")
    return program


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


def main() -> None:
    """Run the command line."""
    cli(prog_name="python -m stack")
