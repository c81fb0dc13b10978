"""A relay's command line is read by two readers of one table: by the quick one as by the command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from stack.core.machine import Address
from stack.relay.command import relay
from stack.relay.options import OPTIONS, OptionError, configure, read

NODE = ("--node", "n1=192.0.2.7:3478")
SLOW = {"click", "dataclasses", "inspect", "json", "ipaddress", "pathlib", "asyncio", "ssl", "nats"}
"""What takes longer to import than a relay needs for all the rest."""


def by_command(*arguments: str) -> dict[str, object]:
    """Read as the command does."""
    return dict(relay.make_context("relay", list(arguments)).params)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        NODE,
        (*NODE, "--node=n2=[2001:db8::1]:9"),
        (*NODE, "--host", "127.0.0.1", "--media-host", "192.0.2.1", "--media-host", "2001:db8::5"),
        (*NODE, "--udp-port", "1", "--udp-port=2", "--inner=10.0.0.4", "--first-port", "21000"),
        (*NODE, "--max-flows", "64", "--port", "0", "--http-host", "::1", "--drain-seconds", "1.5"),
        ("--nats", "nats://a:1", "--nats", "nats://b:2", "--nats-creds", "creds", "--flows", "flows"),
        (*NODE, "--region", "eu-1", "--region="),
    ],
)
def test_both_read_the_same(arguments: tuple[str, ...]) -> None:
    assert read(arguments, {}) == by_command(*arguments)


def test_both_read_the_same_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "VOICE_STACK_NODE": "n1=192.0.2.7:3478 n2=192.0.2.8:3478",
        "VOICE_STACK_REGION": "eu",
        "VOICE_STACK_UDP_PORT": "5000",
        "VOICE_STACK_DRAIN_SECONDS": "30",
        "VOICE_STACK_HOST": "",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = read(("--region", "us"), environment)
    assert found is not None
    assert found == by_command("--region", "us")
    assert found["node"] == {"n1": Address("192.0.2.7", 3478), "n2": Address("192.0.2.8", 3478)}
    assert (found["region"], found["udp_port"], found["host"]) == ("us", 5000, None)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",), ("-h",), ("serve",), ("--node",), ("--node", "--host"), ("--node", "n-1=192.0.2.7:1"),
        (*NODE, *NODE), ("--host", "example.com"), ("--udp-port", "65536"), ("--udp-port", "x"),
        ("--udp-port", "１"), ("--first-port", "0"), ("--max-flows", "0"), ("--max-flows", "-1"),
        ("--drain-seconds", "nan"), ("--drain-seconds", "86401"), ("--region", "a b"), ("--flows", "/"),
        ("--flows", ""), ("--unknown", "1"), ("--", "x"),
    ],
)  # fmt: skip
def test_what_is_unusual_is_left_to_the_command(arguments: tuple[str, ...]) -> None:
    assert read(arguments, {}) is None


def test_every_option_has_its_help_and_variable() -> None:
    for option, parameter in zip(OPTIONS, relay.params, strict=True):
        assert isinstance(parameter, click.Option)
        assert (parameter.opts, parameter.envvar) == ([option.name], option.variable)
        assert (parameter.help or "").endswith((".", "[repeat]"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--node PART"),
        ((*NODE, "--nats-creds", "x"), "does nothing"),
        ((*NODE, "--inner", "::1"), "family"),
        ((*NODE, "--host", "0.0.0.0"), "name the addresses"),
        ((*NODE, "--first-port", "65000"), "beyond 65535"),
    ],
)
def test_what_does_not_go_together(arguments: tuple[str, ...], words: str) -> None:
    options = read(arguments, {})
    assert options is not None
    with pytest.raises(OptionError, match=words):
        configure(options)


def test_a_start_imports_nothing_that_is_slow() -> None:
    loaded = []
    for statement in ("pass", "import stack.relay.start"):
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; {statement}; print(*sys.modules)"],
            capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        loaded.append(set(done.stdout.split()))
    before, after = loaded
    assert "stack.relay.supervisor" in after
    assert not (after - before) & SLOW
