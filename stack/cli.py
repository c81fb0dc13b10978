"""The command line: `python -m stack serve | call | version`. It composes everything and decides nothing.

Whatever a user can get wrong ends in one clear line on stderr and a non-zero exit.

Here are `serve` and the small commands; `call` (`cli_call.py`) and the roles of several machines (`cli_roles.py`)
are apart, as is what an option may be (`cli_types.py`, `cli_checks.py`).
"""

from __future__ import annotations

import logging
import os
import ssl
import sys
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, NoReturn
from urllib.error import HTTPError, URLError

import click

from stack import __version__
from stack.agents import AGENTS, AudioFormat, BridgeConfig, HttpAgentConfig, bridge, default_agent, http_agent
from stack.aio import HostConfig, IceMode, ticket_file
from stack.aio.tickets import TicketConfig
from stack.aio.workers import default_workers
from stack.cli_call import call
from stack.cli_checks import (
    CALLED,
    CHECKS,
    PREFIX,
    REFERENCES,
    check_apart,
    check_environment,
    check_keys,
    check_together,
    is_stun_server,
    load_agent,
    read_ice_servers,
    read_tcp_port,
)
from stack.cli_roles import add_roles
from stack.cli_run import run
from stack.cli_types import FILE, FOLDER, FiniteRange, WholeRange
from stack.core.errors import LocalError, StackError
from stack.core.urls import without_user
from stack.ice import MAX_WORKERS
from stack.relay.node_list import read_address
from stack.relay.options import MAX_DRAIN
from stack.sdp import Setup
from stack.signaling import ServeConfig, SignalingConfig
from stack.signaling import serve as serve_program
from stack.signaling.caller import parse_dtls_version
from stack.signaling.proxy import TrustedProxies
from stack.signaling.reload import serve_reloading
from stack.voice.conversation import ConversationConfig

TELLING = ("agent", "call", "media", "serve", "signaling")
"""The commands with a log."""


def _level(verbose: int) -> int:
    return (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]


def _tell_more(context: click.Context, _option: click.Parameter, value: int) -> None:
    before = context.parent.params.get("verbose", 0) if context.parent is not None else 0
    if value:
        logging.getLogger().setLevel(_level(before + value))


class _Commands(click.Group):
    """A group whose commands show every error as one line, and end with code 130 after Ctrl-C."""

    def run(self) -> NoReturn:
        """Run the command line of this process, and end it."""
        run(self)

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command; those that tell something take `-v` behind their name, too."""
        if cmd.name in TELLING and all(each.name != "verbose" for each in cmd.params):  # media has those of serve
            told = click.Option(
                ["-v", "--verbose"],
                count=True,
                type=WholeRange(0),
                expose_value=False,
                show_default=False,
                callback=_tell_more,
                help="Say what happens; twice: in detail.",
            )
            cmd.params.append(told)
        super().add_command(cmd, name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StackError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands, context_settings={
    "help_option_names": ["-h", "--help"], "auto_envvar_prefix": "VOICE_STACK", "show_default": True
})  # fmt: skip
@click.version_option(
    __version__, prog_name="voice-stack", message=f"%(prog)s %(version)s (Python {sys.version.split()[0]})"
)
@click.option("-v", "--verbose", count=True, type=WholeRange(0), help="Say what happens; twice: in detail.")
def cli(verbose: int) -> None:
    """A voice call between a person and a program, over protocols of our own."""
    logging.basicConfig(level=_level(verbose), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")


def _option(name: str, **settings: Any) -> Callable[[Any], Any]:
    """An option of `serve`, which `VOICE_STACK_…` in the environment sets as well."""
    if name in CHECKS:
        settings.setdefault("callback", CHECKS[name])
    return click.option(name, envvar=_variable(name), show_envvar=True, **settings)


def _variable(name: str) -> str:
    return PREFIX + name.lstrip("-").replace("-", "_").upper()


HEALTH_TIMEOUT = 2.0
"""Seconds that a server has to say that it is alive."""
DAY = 86_400.0
"""Seconds for which a client that fell silent is waited for, at most."""
MAX_TTL = 10 * 365 * 86_400
"""Seconds for which credentials last, at most: ten years."""
_PORT = WholeRange(0, 65535)


def _check_proxies(_context: click.Context, _option: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        TrustedProxies(value)
    except LocalError as error:
        raise click.BadParameter(str(error)) from error
    return value


@cli.command()
@_option(
    "--agent",
    default=None,
    show_default="assistant where it is installed, else echo",
    help=f"{', '.join(AGENTS)}, http, or module:function of your own.",
)
@_option("--llm", default=None, help="http: URL of the server that chats, as http://127.0.0.1:11434/v1.")
@_option("--stt", default=None, help="http: URL of the one that recognises speech; default: the same.")
@_option("--tts", default=None, help="http: URL of the one that speaks; default: the same.")
@_option("--llm-model", default=None, help="http: its model; default: the one that it has. [so for the next two]")
@_option("--stt-model", default=None, help="http: model for speech recognition.")
@_option("--tts-model", default=None, help="http: model for speech.")
@_option("--voice", default="alloy", help="http: the voice to speak with.")
@_option("--language", default=None, help="http: language of the person, as en; default: recognised.")
@_option("--instructions", default=None, help="http: what the model is told first.")
@_option("--greeting", default=None, help="http: what is said when a call begins.")
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
    "--detector",
    default="earshot",
    help="Who hears speech: earshot, auto (soft voices, too), energy, or silero:FILE.",
)
@_option(
    "--noise-reduction",
    default="off",
    help="What the detector hears, without noise: off, or webrtc (needs webrtc-noise-gain).",
)
@_option("--echo", default="auto", help="Who cancels echo: auto, aec3 (libwebrtc's, needs livekit), or off.")
@_option(
    "--endpointer", default="rules", help="Who ends semantic turns: rules, or smart-turn:FILE (an ONNX model)."
)
@_option("--host", default=None, help="Address for HTTP and media; 0.0.0.0: all. Without it: 127.0.0.1 for HTTP.")
@_option("--media-host", default=None, help="Address for media alone. Without both: all, and loopback.")
@_option("--port", default=8080, type=_PORT, help="HTTP port.")
@_option("--udp-port", default=3478, type=_PORT, help="Media port.")
@_option("--interface", multiple=True, help="Network interface for media, as eth0; default: all. [repeat]")
@_option("--public-ip", multiple=True, help="Address to offer when a 1:1 NAT stands in front. [repeat]")
@_option("--relay", multiple=True, help="Relay in front, as 203.0.113.7:3478: offered instead of us. [repeat]")
@_option(
    "--tcp-port",
    default="udp",
    help="For clients whose network blocks UDP: udp (the number of the media port), http (HTTP's own), N, or off.",
)
@_option(
    "--ice",
    default="auto",
    type=click.Choice([mode.value for mode in IceMode]),
    help="lite answers checks, full sends them, too; auto: full for clients that wait for checks.",
)
@_option("--node", default="", help="Name of this machine among several, for a router in front of them.")
@_option("--resume-seconds", default=30.0, type=FiniteRange(0, DAY), help="Wait for a client that fell silent.")
@_option(
    "--workers",
    default=default_workers,
    show_default="1 where the platform can",
    type=WholeRange(0, MAX_WORKERS),
    help="Processes that carry the media; 0: a thread does.",
)
@_option("--max-calls", default=1000, type=WholeRange(1), help="Calls at once.")
@_option("--token", multiple=True, help="Bearer token that is asked for: TOKEN, or scope,scope=TOKEN. [repeat]")
@_option("--origin", multiple=True, help="Origin whose pages may call, besides our own; *: all. [repeat]")
@_option(
    "--trusted-proxy",
    multiple=True,
    callback=_check_proxies,
    help="Address or network of a proxy whose X-Forwarded-For and -Proto are believed. [repeat]",
)
@_option("--path-prefix", default="", help="Serve all below this path, as /voice.")
@_option("--offers-per-second", default=100.0, type=FiniteRange(0.1), help="Of all clients together.")
@_option("--offers-per-client", default=20.0, type=FiniteRange(0.1), help="Each second, from one address.")
@_option("--calls-per-client", default=100, type=WholeRange(1), help="At once, from one address.")
@_option("--redirect", default=None, help="Send WHIP and WHEP clients to this address (307).")
@_option(
    "--ice-server",
    multiple=True,
    help="stun:… or turn:USER:PASSWORD@… for candidates of ours; clients are told STUN ones. [repeat]",
)
@_option("--turn-url", multiple=True, help="URL of a TURN server, told with credentials that expire. [repeat]")
@_option("--turn-secret", default="", help="Secret shared with those servers (coturn: static-auth-secret).")
@_option(
    "--turn-ttl", default=86_400, type=WholeRange(60, MAX_TTL), help="Seconds for which such credentials last."
)
@_option("--tls-cert", default=None, type=FILE, help="PEM certificate chain for HTTPS.")
@_option("--tls-key", default=None, type=FILE, help="PEM key of it.")
@_option("--drain-seconds", default=5.0, type=FiniteRange(0, MAX_DRAIN), help="For calls to end after SIGTERM.")
@_option("--pcap", default=None, type=FILE, help="Write every datagram to this file.")
@_option("--key-log", default=None, type=FILE, help="Add the keys of all calls to this file.")
@_option("--record-dir", default=None, type=FOLDER, help="Record every call into this folder.")
@_option(
    "--ticket-key",
    default=None,
    type=FILE,
    help="Keys of tickets (`ticket-key` makes them): answers outlive this process then, and servers that share "
    "the file take each other's calls.",
)
@_option(
    "--stateless",
    default="auto",
    type=click.Choice(["auto", "never"]),
    help="Let the first packet make the call: auto, where nothing is lost by it. Without --ticket-key "
    "answers are lost when the server is started again.",
)
@_option("--instant-connect", is_flag=True, help="Let clients call again without HTTP, by a ticket, for a day.")
@_option("--claim-header", default=None, help="HTTP header whose value goes into tickets, as context.claim.")
@_option(
    "--claim-bytes",
    default=0,
    type=WholeRange(0),
    help="Do not start unless claims of so many bytes have room in every ticket.",
)
@_option("--dtls", default=None, type=click.Choice(["1.2", "1.3"]), help="Speak this version only.")
@_option("--reload", is_flag=True, help="Start again when a Python file below this folder changes.")
@_option(
    "--setup",
    default="auto",
    type=click.Choice(["auto", "passive", "active"]),
    help="active: we begin DTLS; auto: what is faster for the client.",
)
def serve(**options: Any) -> None:
    """Run the server and its page.

    Each option can be set in the environment instead; several values are separated by spaces there. Keys come from
    there alone: VOICE_STACK_UPSTREAM_KEY, VOICE_STACK_LLM_KEY, VOICE_STACK_STT_KEY, VOICE_STACK_TTS_KEY;
    OPENAI_API_KEY stands for those that are not set.
    """
    _check_serving()
    if options["reload"]:
        arguments = [argument for argument in sys.argv[1:] if argument != "--reload"]
        sys.exit(serve_reloading(arguments, [Path.cwd()]))
    program = _program(options)
    logging.getLogger("stack").setLevel(min(logging.INFO, logging.getLogger().level))
    serve_program(program, **_settings(options))


def _check_serving() -> None:
    """Raise `click.UsageError` for options of `serve` that do nothing, or exclude each other, in any command."""
    context = click.get_current_context()
    check_environment()
    check_together(context, _NEEDS)
    check_apart(context, "agent", "upstream", "each says what answers")
    check_apart(context, "media-host", "interface", "each says where media listens")
    check_apart(context, "relay", "public-ip", "each says what answers name")


def _settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `stack.signaling.serve` takes besides the program."""
    upstream = options["upstream"]
    conversation = ConversationConfig(
        dtls_version=parse_dtls_version(options["dtls"]),
        detector=options["detector"],
        noise_reduction=options["noise_reduction"],
        echo=options["echo"],
        endpointer=options["endpointer"],
        microphone_rate=24_000 if upstream is not None and options["upstream_format"] == "pcm16" else 16_000,
    )
    signaling = SignalingConfig(
        tokens=options["token"],
        origins=options["origin"],
        trusted_proxies=options["trusted_proxy"],
        offers_per_second=options["offers_per_second"],
        offers_per_client=options["offers_per_client"],
        calls_per_client=options["calls_per_client"],
        redirect=options["redirect"],
        ice_servers=tuple(filter(is_stun_server, options["ice_server"])),
        turn_urls=options["turn_url"],
        turn_secret=options["turn_secret"],
        turn_ttl=options["turn_ttl"],
        claim_header=options["claim_header"],
    )
    return {
        "host": options["host"],
        "media_host": options["media_host"],
        "port": options["port"],
        "udp_port": options["udp_port"],
        "public_ip": options["public_ip"],
        "pcap": options["pcap"],
        "workers": options["workers"],
        "key_log": options["key_log"],
        "config": HostConfig(
            setup=None if options["setup"] == "auto" else Setup(options["setup"]),
            conversation=conversation,
            max_calls=options["max_calls"],
            record_dir=options["record_dir"],
            resume_timeout=options["resume_seconds"],
            interfaces=options["interface"],
            tcp_port=read_tcp_port(options["tcp_port"]),
            ice=IceMode(options["ice"]),
            ice_servers=read_ice_servers(options),
            node=options["node"],
            relays=tuple(read_address(each) for each in options["relay"]),
            tickets=_tickets(options),
        ),
        "server": ServeConfig(
            signaling=signaling,
            path_prefix=options["path_prefix"].rstrip("/"),
            program_passes_events=upstream is not None,
            tls_cert=options["tls_cert"],
            tls_key=options["tls_key"],
            drain_seconds=options["drain_seconds"],
            goaway_seconds=options.get("goaway_seconds", 0.0),
        ),
    }


def _tickets(options: Mapping[str, Any]) -> TicketConfig | None:
    """Return which tickets there are; without a file their key is made at the start, for all workers."""
    config = TicketConfig(
        options["ticket_key"],
        stateless=options["stateless"] == "auto",
        instant_connect=options["instant_connect"],
        claim_bytes=options["claim_bytes"],
    )
    return config if config.stateless or config.instant_connect or config.key_file is not None else None


_HTTP_OPTIONS = (
    "llm", "stt", "tts", "llm_model", "stt_model", "tts_model", "voice", "language", "instructions", "greeting"
)  # fmt: skip


_UPSTREAM = ("--upstream", lambda options: options["upstream"] is not None)
_HTTP = ("--agent http", lambda options: options["upstream"] is None and options["agent"] == "http")
_NEEDS: dict[str, tuple[str, Callable[[Mapping[str, Any]], bool]]] = {
    "turns": _UPSTREAM,
    "upstream_format": _UPSTREAM,
    "tls_cert": ("--tls-key", lambda options: options["tls_key"] is not None),
    "tls_key": ("--tls-cert", lambda options: options["tls_cert"] is not None),
    "turn_url": ("--turn-secret", lambda options: bool(options["turn_secret"])),
    "turn_secret": (
        "--turn-url, or --ice-server with a TURN server",
        lambda options: bool(options["turn_url"]) or not all(map(is_stun_server, options["ice_server"])),
    ),
    "turn_ttl": ("--turn-url", lambda options: bool(options["turn_url"])),
    "claim_bytes": ("--claim-header", lambda options: options["claim_header"] is not None),
    "claim_header": (
        "--stateless auto, --ticket-key or --instant-connect",
        lambda options: "stateless" not in options or bool(_tickets(options)),
    ),
    **dict.fromkeys(_HTTP_OPTIONS, _HTTP),
}
"""Options that do something only together with another."""


def _program(options: dict[str, Any]) -> Callable[..., Any]:
    """Return what is to be run for each call."""
    if options["upstream"] is not None:
        return _bridge_to(options["upstream"], options)
    if options["agent"] == "http":
        return _http_agent(options)
    return load_agent(default_agent() if options["agent"] is None else options["agent"])


def _http_agent(options: dict[str, Any]) -> Callable[..., Any]:
    """Return the agent that talks by means of HTTP servers. Its keys are taken from the environment alone."""
    if options["llm"] is None:
        raise click.UsageError("--agent http needs --llm URL, as --llm http://127.0.0.1:11434/v1")
    shared = os.environ.get("OPENAI_API_KEY", "")
    check_keys("OPENAI_API_KEY")
    keys: dict[str, Any] = {
        f"{name}_key": os.environ.get(f"VOICE_STACK_{name.upper()}_KEY") or shared
        for name in ("llm", "stt", "tts")
    }
    given: dict[str, Any] = {name: options[name] for name in _HTTP_OPTIONS if options[name] is not None}
    return http_agent(HttpAgentConfig(**given, **keys))


def _bridge_to(url: str, options: dict[str, Any]) -> Callable[..., Any]:
    """Return the bridge. Its key is taken from the environment alone: a command line is there for all to see."""
    check_keys("OPENAI_API_KEY")
    key = os.environ.get("VOICE_STACK_UPSTREAM_KEY") or os.environ.get("OPENAI_API_KEY", "")
    audio_format = AudioFormat[options["upstream_format"].upper()]
    return bridge(BridgeConfig(url, key=key, turns=options["turns"], format=audio_format))


@cli.command()
@click.argument("url", required=False, callback=CALLED)
def health(url: str | None) -> None:
    """Ask a server whether it is alive; exit code 1 if it is not.

    Without URL: the server that this environment sets up (VOICE_STACK_PORT, VOICE_STACK_TLS_CERT …).
    """
    url = (url or _own_url()).rstrip("/") + "/healthz"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = (
        False,
        ssl.CERT_NONE,
    )  # it is asked whether it lives, not who it is
    try:
        with urllib.request.urlopen(url, timeout=HEALTH_TIMEOUT, context=context) as response:
            click.echo(response.read(1000).decode("utf-8", "replace").strip())
    except (OSError, ValueError, HTTPException) as error:
        raise click.ClickException(f"{without_user(url)}: {_why(error)}") from error


def _why(error: Exception) -> str:
    """Return what is wrong in the words of the system, which `urllib` wraps."""
    cause = error.reason if isinstance(error, URLError) and not isinstance(error, HTTPError) else error
    return (cause.strerror if isinstance(cause, OSError) else None) or str(cause)


def _own_url() -> str:
    """Return where a `serve` without options listens on this machine, by the environment."""
    options = serve.make_context("serve", []).params
    host = options["host"] if options["host"] not in (None, "0.0.0.0", "::", "*") else "127.0.0.1"
    scheme = "http" if options["tls_cert"] is None else "https"
    prefix = (options.get("path_prefix") or "").strip("/")
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{options['port']}/{prefix}"


@cli.command(name="ticket-key")
@click.argument("file", type=FILE)
@click.option(
    "--revoke",
    multiple=True,
    callback=REFERENCES,
    metavar="REFERENCE",
    help="Honour this ticket no more. [repeat]",
)
@click.option("--revoke-epoch", multiple=True, type=int, help="Honour no ticket of this epoch any more. [repeat]")
def ticket_key(file: str, revoke: tuple[str, ...], revoke_epoch: tuple[int, ...]) -> None:
    """Make the keys of tickets, or add a new epoch to those in FILE; servers that use it follow within seconds.

    With --revoke or --revoke-epoch no epoch is added. Copy the file to every server that shares the tickets.
    """
    if revoke or revoke_epoch:
        ring = ticket_file.revoke(file, [ticket_file.read_reference(each) for each in revoke], revoke_epoch)
    else:
        ring = ticket_file.add_epoch(file)
    epochs = ", ".join(str(key.epoch) for key in ring.keys)
    click.echo(f"{file}: epochs {epochs}, of which {ring.newest.epoch} seals; {len(ring.revoked)} tickets revoked")


@cli.command()
def version() -> None:
    """Print the version."""
    click.echo(f"voice-stack {__version__} (Python {sys.version.split()[0]})")


cli.add_command(call)
add_roles(cli, serve, _program, _settings, _check_serving)


def main() -> None:
    """Run the command line."""
    cli.run()
