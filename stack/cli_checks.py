"""What the command line takes, checked before anything starts: the wrong value is named, and the right form shown.

Each check is a `click` callback or a function that raises `click.UsageError`: one line, and exit code 2. What is
right and only not there (a file, a library, a port in use) is said when the server starts, with exit code 1.
"""

from __future__ import annotations

import difflib
import importlib
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any, Literal
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from stack.agents import AGENTS
from stack.agents.http.config import base_url, is_key, is_language
from stack.aio import IceMode, as_program
from stack.aio.host_checks import read_public_ip
from stack.aio.ticket_file import read_reference
from stack.audio.library import ENVIRONMENT_VARIABLE, find_opus
from stack.core.errors import LocalError, ParseError
from stack.core.ufrag import is_node_part
from stack.core.urls import without_user
from stack.ice.servers import IceServer, make_ephemeral_credentials
from stack.relay.node_list import read_address
from stack.signaling.security import is_origin, read_token
from stack.signaling.server import PATH_PREFIX, refusing_to_serve

PREFIX = "VOICE_STACK_"
OTHER_VARIABLES = frozenset({
    "VOICE_STACK_UPSTREAM_KEY", "VOICE_STACK_LLM_KEY", "VOICE_STACK_STT_KEY", "VOICE_STACK_TTS_KEY",
    "VOICE_STACK_OPUS", "VOICE_STACK_LOCAL_MODEL",
})  # fmt: skip
"""What is read from the environment besides options."""
_FOR_OURSELVES = 10 * 365 * 86_400
"""Seconds for which credentials last that a server makes for itself."""
_STUN_SERVER = re.compile(r"stuns?:[^\s?/@]+")  # RFC 7064 §3.1
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})")
_DEFAULTS = (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)

_MODEL_SERVER = "the address of a server of models, as http://127.0.0.1:8000/v1"


Check = Callable[[click.Context, click.Parameter, Any], Any]


def _each(check: Callable[[str], object], form: str) -> Check:
    """Return a callback that wants `check` to hold for each value; `form` shows the right one."""

    def callback(_context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
        for text in value if isinstance(value, tuple) else () if value is None else (value,):
            try:
                usable = check(text)
            except ValueError:
                usable = False
            if not usable:
                raise click.BadParameter(f"{without_user(text)!r} is not {form}")
        return value

    return callback


def _is_url(text: str, *schemes: str) -> bool:
    parts = urlsplit(text)
    return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0 and not re.search(r"\s", text)


def is_listening_host(text: str) -> bool:
    """Return True for what can be listened on: an IP address without brackets and port, a name, or *."""
    try:
        return bool(ip_address(text))
    except ValueError:
        return text == "*" or (_NAME.fullmatch(text) is not None and not re.fullmatch(r"[0-9.]*", text))


def _is_model_server(text: str) -> bool:
    try:
        return bool(base_url(text))
    except LocalError:
        return False


def _ice_servers(_context: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    for text in value:
        if text.startswith("turn"):
            try:
                IceServer.parse(text, "user", "password")
            except LocalError as error:
                raise click.BadParameter(str(error)) from error
        elif not _STUN_SERVER.fullmatch(text):
            raise click.BadParameter(f"{text!r} is not a STUN server, as stun:stun.example.com:3478")
    return value


def is_stun_server(text: str) -> bool:
    """Return True for one that clients are told, too."""
    return not text.startswith("turn")


def read_ice_servers(options: Mapping[str, Any]) -> tuple[IceServer, ...]:
    """Return the servers from which our own candidates come.

    A TURN server without a user takes credentials made from the secret of `--turn-secret`. Raises
    `click.UsageError` where there is none, or our agent is lite.
    """
    servers = []
    for text in options["ice_server"]:
        if text.startswith("stuns:"):  # told to clients alone
            continue
        username = password = ""
        if not is_stun_server(text):
            if options["ice"] == IceMode.LITE.value:
                raise click.UsageError("--ice-server: a TURN server is of no use with --ice lite")
            if options["turn_secret"]:
                made = make_ephemeral_credentials(
                    options["turn_secret"], int(time.time() + _FOR_OURSELVES), "server"
                )
                username, password = made.username, made.password
            elif "@" not in text:
                raise click.UsageError(
                    f"--ice-server: {text} has no credentials, as turn:USER:PASSWORD@HOST; "
                    "clients are told TURN servers by --turn-url with --turn-secret"
                )
        try:
            servers.append(IceServer.parse(text, username, password))
        except LocalError as error:
            raise click.UsageError(f"--ice-server: {text}: {error}") from error
    return tuple(servers)


def _is_turn_server(text: str) -> bool:
    try:
        return IceServer.parse(text, "user", "password").turn and "@" not in text
    except LocalError:
        return False


def read_tcp_port(text: str) -> int | Literal["udp", "http"] | None:
    """Return `HostConfig.tcp_port` of what was written."""
    if text == "off":
        return None
    if text == "udp":
        return "udp"
    return "http" if text == "http" else int(text)


def _is_tcp_port(text: str) -> bool:
    return text in ("off", "udp", "http") or (text.isascii() and text.isdigit() and int(text) <= 65535)


def _is_address(text: str) -> bool:
    try:
        return bool(read_address(text))
    except ParseError:
        return False


def _public_ips(_context: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    for text in value:
        try:
            read_public_ip(text)
        except LocalError as error:
            raise click.BadParameter(str(error)) from error
    return value


def _tokens(_context: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    for text in value:
        try:
            read_token(text)
        except LocalError as error:
            raise click.BadParameter(str(error)) from error
    return value


_HOST = "an address or a name of this machine without a port, as 0.0.0.0, :: or localhost"
CHECKS: Mapping[str, Check] = {
    "--detector": _each(
        re.compile("auto|earshot|energy|silero:.+").fullmatch, "auto, earshot, energy or silero:FILE"
    ),
    "--echo": _each(re.compile("auto|aec3|off").fullmatch, "auto, aec3 or off"),
    "--noise-reduction": _each(re.compile("off|webrtc").fullmatch, "off or webrtc"),
    "--endpointer": _each(re.compile("rules|smart-turn:.+").fullmatch, "rules or smart-turn:FILE"),
    "--llm": _each(_is_model_server, _MODEL_SERVER),
    "--stt": _each(_is_model_server, _MODEL_SERVER),
    "--tts": _each(_is_model_server, _MODEL_SERVER),
    "--language": _each(lambda text: not text or is_language(text), "a language, as en or pt-BR"),
    "--claim-header": _each(
        re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch, "the name of a header"
    ),  # RFC 9110 §5.1
    "--host": _each(is_listening_host, _HOST),
    "--media-host": _each(is_listening_host, _HOST),
    "--interface": _each(bool, "the name of a network interface, as eth0"),
    "--public-ip": _public_ips,
    "--relay": _each(_is_address, "an IP address and a port, as 203.0.113.7:3478"),
    "--tcp-port": _each(lambda text: _is_tcp_port(text), "a TCP port: udp, http, off, or 0 to 65535"),
    "--node": _each(is_node_part, "letters, digits and slashes, up to 64"),
    "--path-prefix": _each(lambda text: PATH_PREFIX.fullmatch(text.removesuffix("/")), "a path, as /voice"),
    "--token": _tokens,
    "--origin": _each(is_origin, "an origin, as https://app.example.com (no path), or *"),
    "--redirect": _each(lambda text: _is_url(text, "http", "https"), "an address, as https://other.example.com"),
    "--ice-server": _ice_servers,
    "--turn-url": _each(_is_turn_server, "a TURN server, as turn:turn.example.com:3478?transport=udp"),
    "--upstream": _each(
        lambda text: _is_url(text, "ws", "wss"), "the address of a WebSocket, as wss://api.example.com/v1/realtime"
    ),
}
"""By option: what its value has to be."""
CALLED = _each(lambda text: _is_url(text, "http", "https"), "an address, as http://127.0.0.1:8080")
"""What may be called."""
WEB_ADDRESS = _each(
    lambda text: not text or _is_url(text, "http", "https"), "an address, as https://n1.example.com"
)
"""Where something may be reached; empty: nowhere."""
BEARER = _each(
    lambda text: text.isascii() and text.isprintable() and " " not in text and text != "",
    "a token: one or more visible ASCII characters, without spaces",
)
"""What a client may send as its token."""


def _gathered_from(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    for text in value:
        try:
            IceServer.parse(text, "user", "password")
        except LocalError as error:
            raise click.BadParameter(f"{without_user(text)!r}: {error}") from error
    return value


def _references(_context: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    for text in value:
        try:
            read_reference(text)
        except LocalError as error:
            raise click.BadParameter(str(error)) from error
    return value


REFERENCES: Check = _references
"""What names tickets."""
GATHERED_FROM: Check = _gathered_from
"""What a client may gather candidates from."""


KEYS = ("VOICE_STACK_UPSTREAM_KEY", "VOICE_STACK_LLM_KEY", "VOICE_STACK_STT_KEY", "VOICE_STACK_TTS_KEY")


def check_keys(*variables: str) -> None:
    """Raise `click.UsageError` for a variable of the environment that holds no key."""
    for variable in variables:
        if not is_key(os.environ.get(variable, "")):
            raise click.UsageError(f"{variable} is no key: a header takes visible ASCII characters alone")


def check_environment() -> None:
    """Raise `click.UsageError` for a variable `VOICE_STACK_…` that sets nothing in any command, or a bad key.

    Raises `LocalError` for a library of Opus that is not there.
    """
    check_keys(*KEYS)
    if os.environ.get(ENVIRONMENT_VARIABLE):
        try:
            find_opus()
        except LocalError as error:
            raise LocalError(f"{ENVIRONMENT_VARIABLE} names no library of Opus: {error}") from error
    known = set(OTHER_VARIABLES)
    group = click.get_current_context().find_root().command
    assert isinstance(group, click.Group)
    for before, command in [("", group), *((f"{name.upper()}_", each) for name, each in group.commands.items())]:
        for parameter in command.params:
            known.add(f"{PREFIX}{before}{str(parameter.name).upper()}")
            known.update([parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or ())
    for variable in sorted(os.environ):
        if variable.startswith(PREFIX) and variable not in known:
            like = difflib.get_close_matches(variable, known, 1)
            meant = f"; did you mean {like[0]}?" if like else ""
            raise click.UsageError(f"the environment variable {variable} sets nothing{meant}")


def check_together(
    context: click.Context, needs: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], bool]]]
) -> None:
    """Raise `click.UsageError` for an option that was given and would do nothing.

    `needs` says of an option what else it needs, in words and as a condition on all options.
    """
    for name, (words, holds) in needs.items():
        given = context.get_parameter_source(name) not in (None, *_DEFAULTS)
        if given and context.params[name] not in (None, (), "") and not holds(context.params):
            raise click.UsageError(f"--{name.replace('_', '-')} does nothing without {words}")


def check_apart(context: click.Context, one: str, other: str, why: str) -> None:
    """Raise `click.UsageError` if both options stand on the command line, or both are in the environment.

    One on the command line goes before the other in the environment.
    """
    sources = {context.get_parameter_source(name.replace("-", "_")) for name in (one, other)}
    if len(sources) == 1 and sources & {ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT}:
        raise click.UsageError(f"--{one} and --{other} exclude each other: {why}")


def load_agent(name: str, hint: str = "--agent") -> Callable[..., Any]:
    """Return the agent called `name`, or the one at `module:function`; raises `click.BadParameter`.

    `hint` is what named it.
    """
    if name in AGENTS:
        return AGENTS[name]
    if name == "http":
        raise click.BadParameter(
            "http has options of its own, which are those of `serve`: name a module:function of yours that is "
            "http_agent(HttpAgentConfig(…))",
            param_hint=hint,
        )
    module_name, colon, function_name = name.partition(":")
    if not colon or not module_name or not function_name:
        raise click.BadParameter(
            f"{name!r} is neither one of {', '.join(sorted([*AGENTS, 'http']))} nor module:function",
            param_hint=hint,
        )
    if "/" in module_name or module_name.endswith(".py"):
        dotted = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise click.BadParameter(
            f"a module is named as in an import, {dotted}:{function_name}, not {name!r}", param_hint=hint
        )
    sys.path.insert(0, "")
    try:
        with refusing_to_serve():
            module = importlib.import_module(module_name)
    except Exception as error:  # whatever the module does while it is imported
        is_ours = isinstance(error, ImportError | LocalError)
        reason = str(error) if is_ours else f"{type(error).__name__}: {error}"
        raise click.BadParameter(f"cannot import {module_name!r}: {reason}", param_hint=hint) from error
    program: Callable[..., Any] | None = getattr(module, function_name, None)
    if program is None:
        raise click.BadParameter(f"{module_name!r} has no {function_name!r}", param_hint=hint)
    try:
        as_program(program)
    except LocalError as error:
        raise click.BadParameter(str(error), param_hint=hint) from error
    return program
