"""The commands of several machines: `media`, `agent`, `signaling`, `relay`. The first three have the options
of `serve` that fit.

docs/scale.md says how they are used.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import click

from stack.cli_checks import PREFIX, WEB_ADDRESS, check_environment, load_agent
from stack.cli_types import FILE, FiniteRange
from stack.cluster.backbone import BackboneConfig
from stack.cluster.messages import check_name, check_node_name
from stack.cluster.program_host import ProgramHostConfig
from stack.cluster.roles import RoleConfig, run_agent, run_media, run_signaling
from stack.core.errors import LocalError, ParseError
from stack.relay.command import relay
from stack.relay.options import MAX_DRAIN, check_credentials, check_nats
from stack.signaling.server import whole_config

ReadProgram = Callable[[dict[str, Any]], Callable[..., Any]]
ReadSettings = Callable[[Mapping[str, Any]], dict[str, Any]]

_SIGNALING = (
    "host", "port", "token", "origin", "trusted_proxy", "path_prefix", "offers_per_second", "offers_per_client",
    "ice_server", "turn_url", "turn_secret", "turn_ttl", "tls_cert", "tls_key", "drain_seconds", "ticket_key",
    "instant_connect", "claim_header", "claim_bytes", "setup",
    "relay",
)  # fmt: skip
"""Options of `serve` that `signaling` has."""


def _is_name(check: Callable[[str], str]) -> Callable[[click.Context, click.Parameter, str], str]:
    def callback(_context: click.Context, parameter: click.Parameter, value: str) -> str:
        try:
            return check(value) if value or parameter.default else value
        except LocalError as error:
            raise click.BadParameter(str(error)) from error

    return callback


def _are_nats(_context: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(map(check_nats, value))
    except ParseError as error:
        raise click.BadParameter(str(error)) from error


def _option(name: str, **settings: Any) -> click.Option:
    envvar = PREFIX + name.lstrip("-").replace("-", "_").upper()
    return click.Option([name], envvar=envvar, show_envvar=True, **settings)


def _shared() -> list[click.Parameter]:
    return [
        _option(
            "--nats",
            multiple=True,
            required=True,
            callback=_are_nats,
            help="URL of a NATS server, as nats://127.0.0.1:4222. [repeat]",
        ),
        _option("--nats-creds", default=None, type=FILE, help="File of NATS credentials."),
        _option("--region", default="", callback=_is_name(check_name), help="Where this machine is."),
    ]


_PROGRAM = {"default": "default", "callback": _is_name(check_name)}


def add_roles(
    group: click.Group,
    serve: click.Command,
    read_program: ReadProgram,
    read_settings: ReadSettings,
    check_serving: Callable[[], None],
) -> None:
    """Add the commands to a group; the options are those of `serve`, and so is what `check_serving` refuses."""

    def of_serve(*names: str) -> list[click.Parameter]:
        return [each for each in serve.params if each.name in names]

    def defaults(options: dict[str, Any]) -> dict[str, Any]:
        """Return all that `read_settings` wants: what a command does not have is as in `serve`."""
        return serve.make_context("serve", [], resilient_parsing=True).params | options

    def media(**options: Any) -> None:
        """Carry the media of calls, and hand them to programs elsewhere.

        Without --agent a call that no program process takes is ended, and its client is told.
        """
        check_serving()
        if not options["node"]:
            raise click.UsageError("media needs --node NAME, which no other machine has, as --node n1")
        try:
            check_node_name(options["node"])
        except LocalError as error:
            raise click.UsageError(f"--node: {error}") from error
        local = None
        if options["agent"] is not None or options["upstream"] is not None:
            local = read_program(options)
        config = whole_config(**read_settings(defaults(options)))
        _run(run_media(_role(options, options["program"], options["http_url"]), config, local))

    def signaling(**options: Any) -> None:
        """Answer offers for all media nodes, by tickets, and keep nothing."""
        check_serving()
        if options["ticket_key"] is None:
            raise click.UsageError("signaling needs --ticket-key FILE, the one that the nodes have")
        config = whole_config(**read_settings(defaults(options)))
        _run(run_signaling(_role(options), config))

    def agent(**options: Any) -> None:
        """Run PROGRAM, as module:function, for calls whose media are elsewhere."""
        check_environment()
        program = load_agent(options["agent_program"], "PROGRAM")
        settings = ProgramHostConfig(options["program"], options["max_calls"], options["name"])
        _run(run_agent(program, _role(options, options["program"]), settings, options["drain_seconds"]))

    named = [each for each in serve.params if each.name != "reload"]
    group.add_command(
        click.Command(
            "media",
            callback=media,
            help=media.__doc__,
            params=[
                *named,
                *_shared(),
                _option("--program", help="Name of the programs that take calls.", **_PROGRAM),
                _option(
                    "--http-url",
                    default="",
                    callback=WEB_ADDRESS,
                    help="Where clients reach this node's HTTP, as https://n1.example.com.",
                ),
                _option(
                    "--goaway-seconds",
                    default=10.0,
                    type=FiniteRange(0, MAX_DRAIN),
                    help="For calls to go to other nodes when the drain is over.",
                ),
            ],
        )
    )
    group.add_command(
        click.Command(
            "signaling", callback=signaling, help=signaling.__doc__, params=[*of_serve(*_SIGNALING), *_shared()]
        )
    )
    group.add_command(
        click.Command(
            "agent",
            callback=agent,
            help=agent.__doc__,
            params=[
                click.Argument(["agent_program"], metavar="PROGRAM"),
                *_shared(),
                _option("--program", help="Name under which nodes ask for it.", **_PROGRAM),
                _option(
                    "--name", default="", callback=_is_name(check_name), help="Of this process; default: random."
                ),
                *of_serve("max_calls", "drain_seconds"),
            ],
        )
    )
    group.add_command(relay)


def _role(options: Mapping[str, Any], program: str = "default", url: str = "") -> RoleConfig:
    logging.getLogger("stack").setLevel(min(logging.INFO, logging.getLogger().level))
    check_credentials(options["nats_creds"])
    backbone = BackboneConfig(tuple(options["nats"]), options["nats_creds"])
    return RoleConfig(backbone, options["region"], program, url)


def _run(work: Any) -> None:
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(work)
