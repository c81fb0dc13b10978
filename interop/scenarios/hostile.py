"""Hostile neighbours: what an attacker off the path can send while a call goes on."""

from __future__ import annotations

from random import Random

from interop.evidence import SIDES
from interop.scenarios.registry import scenario
from interop.trial import Trial


@scenario("garbage", "RFC 7983 §7, RFC 6347 §4.1.2.7", seconds=7, is_quick=True)
async def garbage(trial: Trial) -> None:
    """Two thousand datagrams of noise, of every first byte, change nothing."""
    random = Random(17)
    await trial.connect()
    for number in range(1_000):
        for side in SIDES:
            body = random.randbytes(random.randrange(1, 200))
            trial.tap.forge(bytes((number & 0xFF,)) + body, side)
        if number % 100 == 99:
            await trial.stay(0.1)
    await trial.hears("server")
    await trial.hears("client")
    await trial.also_messages(("still here",))


@scenario("forged alert", "RFC 6347 §4.1.2.7, RFC 9147 §4.5.2", seconds=6)
async def forged_alert(trial: Trial) -> None:
    """Alerts that are not authentic do not end the call."""
    await trial.connect()
    for version in (b"\xfe\xfd", b"\xfe\xff"):
        for epoch in (0, 1):
            for alert in (b"\x02\x28", b"\x01\x00"):
                record = b"\x15" + version + bytes((0, epoch)) + bytes(6) + b"\0\2" + alert
                for side in SIDES:
                    trial.tap.forge(record, side)
    await trial.stay(0.5)
    await trial.hears("server")
    await trial.hears("client")


@scenario("flood of checks", "RFC 8445 §19.5.1, RFC 8489 §9.1.3", seconds=7)
async def flood_of_checks(trial: Trial) -> None:
    """A thousand Binding requests with wrong credentials to each side; the call goes on."""
    random = Random(18)
    await trial.connect()
    for number in range(1_000):
        username = b"abcd:efgh"
        attribute = b"\0\x06\0\x09" + username + b"\0\0\0"
        body = attribute + b"\0\x08\0\x14" + random.randbytes(20)
        message = b"\0\1" + len(body).to_bytes(2) + b"\x21\x12\xa4\x42" + random.randbytes(12) + body
        for side in SIDES:
            trial.tap.forge(message, side)
        if number % 100 == 99:
            await trial.stay(0.1)
    await trial.hears("server")
    await trial.hears("client")
