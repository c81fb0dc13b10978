"""The command line: `python -m stack serve | call | version`. It composes everything and decides nothing.

Whatever a user can get wrong ends in one clear line on stderr and a non-zero exit.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import click

from stack import __version__
from stack.agents import AGENTS, AudioFormat, BridgeConfig, bridge
from stack.aio import HostConfig
from stack.core.errors import StackError
from stack.sdp import Setup
from stack.signaling import ServeConfig, SignalingConfig
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


@click.group(cls=_Commands, context_settings={
    "help_option_names": ["-h", "--help"], "auto_envvar_prefix": "VOICE_STACK", "show_default": True
})  # fmt: skip
@click.option("-v", "--verbose", count=True, help="Say what happens; twice: in detail.")
def cli(verbose: int) -> None:
    """A voice call between a person and a program, over protocols of our own."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")


def _option(name: str, **settings: Any) -> Callable[[Any], Any]:
    """An option of `serve`, which `VOICE_STACK_…` in the environment sets as well."""
    variable = "VOICE_STACK_" + name.lstrip("-").replace("-", "_").upper()
    return click.option(name, envvar=variable, show_envvar=True, **settings)


_PORT = click.IntRange(0, 65535)


@cli.command()
@_option("--agent", default="echo", help=f"{', '.join(AGENTS)}, or module:function of your own.")
@_option(
    "--upstream", default=None, help="wss://… of a model that speaks OpenAI's Realtime protocol: bridge to it."
)
@_option(
    "--turns", default="model", type=click.Choice(["model", "stack"]), help="Who ends turns of a bridged call."
)
@_option(
    "--upstream-format", default="pcm16", type=click.Choice(["pcm16", "pcmu", "pcma"]), help="Sound for the model."
)
@_option(
    "--detector", default="auto", help="Who hears speech: auto, earshot, energy, or silero:FILE (an ONNX model)."
)
@_option("--echo", default="auto", help="Who cancels echo: auto, aec3 (libwebrtc's, needs livekit), or off.")
@_option(
    "--endpointer", default="rules", help="Who ends semantic turns: rules, or smart-turn:FILE (an ONNX model)."
)
@_option("--host", default=None, help="Address for HTTP and media; 0.0.0.0: all. Without it: 127.0.0.1 for HTTP.")
@_option("--media-host", default=None, help="Address for media alone. Without both: all, and loopback.")
@_option("--port", default=8080, type=_PORT, help="HTTP port.")
@_option("--udp-port", default=3478, type=_PORT, help="Media port.")
@_option("--public-ip", default=None, help="Address to offer when a 1:1 NAT stands in front.")
@_option("--max-calls", default=1000, type=click.IntRange(1), help="Calls at once.")
@_option("--token", multiple=True, help="Bearer token that is asked for: TOKEN, or scope,scope=TOKEN. [repeat]")
@_option("--origin", multiple=True, default=["*"], help="Origin whose pages may call. [repeat]")
@_option("--offers-per-second", default=100.0, type=click.FloatRange(0.1), help="Of all clients together.")
@_option("--offers-per-client", default=20.0, type=click.FloatRange(0.1), help="Each second, from one address.")
@_option("--calls-per-client", default=100, type=click.IntRange(1), help="At once, from one address.")
@_option("--redirect", default=None, help="Send WHIP and WHEP clients to this address (307).")
@_option("--ice-server", multiple=True, help="URL of a STUN or TURN server that WHIP clients are told. [repeat]")
@_option("--tls-cert", default=None, type=click.Path(dir_okay=False), help="PEM certificate chain for HTTPS.")
@_option("--tls-key", default=None, type=click.Path(dir_okay=False), help="PEM key of it.")
@_option("--drain-seconds", default=5.0, type=click.FloatRange(0), help="For calls to end after SIGTERM.")
@_option("--pcap", default=None, type=click.Path(dir_okay=False), help="Write every datagram to this file.")
@_option(
    "--record-dir", default=None, type=click.Path(file_okay=False), help="Record every call into this folder."
)
@_option("--dtls", default=None, type=click.Choice(["1.2", "1.3"]), help="Speak this version only.")
@_option("--setup", default="passive", type=click.Choice(["passive", "active"]), help="active: we begin DTLS.")
def serve(**options: Any) -> None:
    """Run the server and its page.

    Each option can be set in the environment instead; several values are separated by spaces there. The key for
    --upstream comes from VOICE_STACK_UPSTREAM_KEY or OPENAI_API_KEY alone.
    """
    upstream = options["upstream"]
    program = load_agent(options["agent"]) if upstream is None else _bridge_to(upstream, options)
    logging.getLogger("stack").setLevel(min(logging.INFO, logging.getLogger().level))
    conversation = ConversationConfig(
        dtls_version=parse_dtls_version(options["dtls"]),
        detector=options["detector"],
        echo=options["echo"],
        endpointer=options["endpointer"],
        microphone_rate=24_000 if upstream is not None and options["upstream_format"] == "pcm16" else 16_000,
    )
    signaling = SignalingConfig(
        tokens=options["token"],
        origins=options["origin"],
        offers_per_second=options["offers_per_second"],
        offers_per_client=options["offers_per_client"],
        calls_per_client=options["calls_per_client"],
        redirect=options["redirect"],
        ice_servers=options["ice_server"],
    )
    serve_program(
        program,
        host=options["host"],
        media_host=options["media_host"],
        port=options["port"],
        udp_port=options["udp_port"],
        public_ip=options["public_ip"],
        pcap=options["pcap"],
        config=HostConfig(
            setup=Setup(options["setup"]),
            conversation=conversation,
            max_calls=options["max_calls"],
            record_dir=options["record_dir"],
        ),
        server=ServeConfig(
            signaling=signaling,
            program_passes_events=upstream is not None,
            tls_cert=options["tls_cert"],
            tls_key=options["tls_key"],
            drain_seconds=options["drain_seconds"],
        ),
    )


def _bridge_to(url: str, options: dict[str, Any]) -> Callable[..., Any]:
    """Return the bridge. Its key is taken from the environment alone: a command line is there for all to see."""
    key = os.environ.get("VOICE_STACK_UPSTREAM_KEY") or os.environ.get("OPENAI_API_KEY", "")
    audio_format = AudioFormat[options["upstream_format"].upper()]
    return bridge(BridgeConfig(url, key=key, turns=options["turns"], format=audio_format))


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
