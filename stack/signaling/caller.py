"""One call from the command line: play a file, record what comes back, and report how it went."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stack.aio import Call, DataChannel
from stack.aio.key_log import key_log_file
from stack.aio.private_files import for_owner_alone
from stack.audio import Samples, read_wav, write_wav
from stack.core.errors import LocalError, StackError
from stack.core.trace import PcapWriter
from stack.core.urls import without_user
from stack.dtls import Version
from stack.ice.gathering import TransportPolicy
from stack.ice.servers import IceServer
from stack.session import Connected, EndReason
from stack.signaling.caller_ice import describe_ice, explain_pairs, explain_servers, render_ice
from stack.signaling.client import ClientCall, DialConfig, DialError, TokenRefused, dial
from stack.signaling.client_silence import SilenceWatch
from stack.signaling.instant import read_grant
from stack.voice.client import EVENTS_CHANNEL, is_failure, read_goaway
from stack.voice.config import ConversationConfig

CONNECT_TIMEOUT = 20.0
"""Seconds to wait for the connection."""
LISTEN_AFTER = 1.0
"""Seconds to go on listening after the played file's end, when no duration is given."""
DEFAULT_DURATION = 5.0
"""Seconds of a call without a file and without a duration."""
RECORD_RATE = 16_000
STEADY = 10.0
"""Seconds after which a call that took the place of a lost one may be lost: what fails twice needs a person."""
AGAIN_AFTER = 0.5
"""Seconds between two tries to make a call that takes the place of a lost one."""
LOST = (
    EndReason.WORKER_FAILED, EndReason.ICE_FAILED, EndReason.CONSENT_EXPIRED, EndReason.CONSENT_UNANSWERED
)  # fmt: skip
"""Ends of a call that was up which say nothing of its program."""
_PING = '{"type": "ping"}'


@dataclass(frozen=True, slots=True)
class CallerConfig:
    """What the caller does; times in seconds, `dtls` "1.2", "1.3" or None for both."""

    url: str
    play: str | None = None
    record: str | None = None
    duration: float | None = None
    dtls: str | None = None
    pcap: str | None = None
    key_log: str | None = None
    token: str | None = field(default=None, repr=False)
    insecure: bool = False
    ticket: str | None = None
    ice_server: tuple[str, ...] = ()
    """URIs of STUN and TURN servers (RFC 7064, RFC 7065), a user and a password perhaps in them."""
    ice_user: str = ""
    ice_password: str = field(default="", repr=False)
    ice_transport: str = "all"
    """A value of `TransportPolicy`."""

    def ice_servers(self) -> tuple[IceServer, ...]:
        """Return the servers; raises `LocalError` for a URI that is none, and for TURN without a password."""
        return tuple(IceServer.parse(uri, self.ice_user, self.ice_password) for uri in self.ice_server)


def parse_dtls_version(text: str | None) -> Version | None:
    """Return the version named "1.2" or "1.3"; None for none, which means both."""
    return None if text is None else {"1.2": Version.DTLS_1_2, "1.3": Version.DTLS_1_3}[text]


async def place_call(config: CallerConfig, stop: asyncio.Event | None = None) -> dict[str, Any]:
    """Place one call and return its report; setting `stop` ends it early.

    Raises `LocalError` for a file that cannot be read or written, `DialError` if no call comes about.
    """
    stop = stop or asyncio.Event()
    servers = config.ice_servers()
    speech = read_wav(config.play) if config.play is not None else None
    if config.record is not None:
        _check_writable(config.record)
    duration = config.duration
    if duration is None:
        duration = len(speech[0]) / speech[1] + LISTEN_AFTER if speech is not None else DEFAULT_DURATION
    with ExitStack() as stack:
        trace = None
        if config.pcap is not None:
            _check_writable(config.pcap)
            file = stack.enter_context(open(config.pcap, "wb", opener=for_owner_alone))
            trace = PcapWriter(file, epoch=time.time(), origin=time.monotonic())
        key_log = None if config.key_log is None else stack.enter_context(key_log_file(config.key_log))
        conversation = ConversationConfig(dtls_version=parse_dtls_version(config.dtls))
        dialling = DialConfig(
            conversation=conversation,
            trace=trace,
            key_log=key_log,
            token=config.token,
            insecure=config.insecure,
            ice_servers=servers,
            ice_transport=TransportPolicy(config.ice_transport),
            ticket=config.ticket,
        )
        talk = _Talk(config.url, dialling, servers, stop, speech)
        await talk.run(duration)
    leg, statistics, connected = talk.leg, talk.statistics, talk.leg.connected
    placed, ice, heard = leg.placed, talk.ice, np.concatenate(talk.heard)
    parts = statistics.as_webrtc()
    rtt = statistics.round_trip_time
    if config.record is not None:
        write_wav(config.record, heard, RECORD_RATE)
    return {
        "url": without_user(config.url),
        "steps_ms": {**placed.signalling, **statistics.steps_ms},
        "setup": [
            {"step": step.name, "ms": step.at_ms, "round_trips": step.round_trips} for step in statistics.setup
        ],
        "path": str(connected.path),
        "ice": describe_ice(ice, TransportPolicy(config.ice_transport)),
        "dtls": {
            "version": connected.dtls_version,
            "group": connected.group,
            "cipher": connected.cipher_suite,
            "srtp_profile": connected.srtp_profile,
        },
        "sent": _sent(parts),
        "received": _received(parts),
        "round_trip_time_ms": _milliseconds(rtt),
        "counters": dict(statistics.counters),
        "heard_seconds": round(len(heard) / RECORD_RATE, 3),
        "moved": talk.moved,
        "end": talk.end,
        "program_failed": talk.program_failed,
    }


async def _connected(placed: ClientCall, servers: Sequence[IceServer], stop: asyncio.Event) -> Connected:
    """Wait for the connection; the error says what was tried, and what the ICE servers have answered, if any."""
    try:
        return await _wait_connected(placed.call, stop)
    except DialError as error:
        if stop.is_set():
            raise
        said: list[str] = []
        with suppress(StackError):
            report = await placed.report_ice()
            said = [each for each in (explain_pairs(report), explain_servers(report, servers)) if each]
        if not said:
            raise
        raise DialError("; ".join([str(error), *said])) from error


async def _wait_connected(call: Call, stop: asyncio.Event) -> Connected:
    waiting = asyncio.ensure_future(call.wait_connected())
    await _first_of(waiting, stop.wait(), asyncio.sleep(CONNECT_TIMEOUT))
    if not waiting.done() or waiting.cancelled():
        raise DialError("interrupted" if stop.is_set() else f"no connection within {CONNECT_TIMEOUT:g} s")
    try:
        return waiting.result()
    except StackError as error:
        raise DialError(f"the call did not connect: {error}") from error


class _Leg:
    """One of the calls that a caller has in turn: another machine takes it over when its own is shut down."""

    def __init__(self, stack: AsyncExitStack, placed: ClientCall, connected: Connected) -> None:
        self.placed = placed
        self.connected = connected
        self.sent_away = asyncio.Event()
        self.stays = False
        """True once no other call takes the place of this one, which was sent away."""
        self.id_there = placed.name
        """What its server calls it."""
        self._channel: DataChannel | None = None
        self.silence = SilenceWatch(placed.stats, self._ping)
        self.looking = asyncio.create_task(self.silence.run())
        self.recorder = asyncio.create_task(_record(placed.call))
        self.watcher = asyncio.create_task(self._watch())
        self._stack = stack

    @classmethod
    async def place(
        cls, url: str, dialling: DialConfig, servers: Sequence[IceServer], stop: asyncio.Event
    ) -> _Leg:
        """Return a call that is connected; raises `DialError` if none comes about."""
        async with AsyncExitStack() as stack:
            placed = await stack.enter_async_context(dial(url, dialling))
            connected = await _connected(placed, servers, stop)
            return cls(stack.pop_all(), placed, connected)

    async def _watch(self) -> bool:
        """Listen on the channel `events` until the end; return whether the server says that its program raised.

        A ticket for the next call comes there, too, and that the machine is about to be shut down (docs/scale.md).
        """
        failed = False
        with suppress(StackError):  # a server without data channels does not say
            self._channel = await self.placed.call.open_channel(EVENTS_CHANNEL)
            async for text in self._channel:
                failed = failed or is_failure(text)
                grant = read_grant(text)
                if grant is not None:
                    self.placed.keep(grant)
                former = read_goaway(text)
                if former:
                    self.id_there = former
                    self.sent_away.set()
        return failed

    async def _ping(self) -> None:
        if self._channel is None:
            raise LocalError("there is no channel yet")
        await self._channel.send(_PING)

    @property
    def is_lost(self) -> bool:
        """True if nothing comes any more, or it has ended of that."""
        call = self.placed.call
        return call.end.reason in LOST if call.end is not None else self.silence.silent.is_set()

    async def end(self) -> tuple[str, Samples, bool]:
        """Hang up; return why the call ended, what was heard, and whether the server's program raised."""
        self.placed.call.hang_up()
        end = await self.placed.call.wait_ended()
        heard, failed = await self.recorder, await self.watcher
        self.looking.cancel()
        await self._stack.aclose()
        return end.reason.value, heard, failed

    async def close(self) -> None:
        """Leave the call, however it is. Harmless after its end."""
        for task in (self.recorder, self.watcher, self.looking):
            task.cancel()
        await self._stack.aclose()


class _Talk:
    """What the caller does until its time is over, in one call or, where machines are shut down, several."""

    def __init__(
        self,
        url: str,
        dialling: DialConfig,
        servers: Sequence[IceServer],
        stop: asyncio.Event,
        speech: tuple[Samples, int] | None,
    ) -> None:
        self._url = url
        self._dialling = dialling
        self._servers = servers
        self._stop = stop
        self._speech = speech
        self.heard: list[Samples] = []
        self.moved = 0
        self._called_again: float | None = None
        """When a call took the place of a lost one, by `time.monotonic`."""
        self.program_failed = False
        self.end = ""

    async def run(self, seconds: float) -> None:
        """Call, and speak and listen for so long; raises `DialError` if no call comes about."""
        self.leg = await _Leg.place(self._url, self._dialling, self._servers, self._stop)
        try:
            await self._talk(seconds)
        finally:
            await self.leg.close()

    async def _talk(self, seconds: float) -> None:
        began = time.monotonic()
        self._speak(0.0)
        while True:
            await self._listen(began + seconds - time.monotonic())
            leg, spoken = self.leg, time.monotonic() - began
            if self._stop.is_set() or spoken >= seconds:
                break
            if leg.sent_away.is_set() and not leg.stays and not leg.placed.call.ended:
                leg.stays = not await self._move(spoken)  # it goes on while it can
            elif leg.is_lost and self._may_call_again():
                if not await self._replace_lost(began):
                    break
            elif leg.placed.call.ended:
                break
        self.statistics = await self.leg.placed.stats()
        self.ice = await self.leg.placed.report_ice()
        await self._leave(self.leg)

    async def _listen(self, seconds: float) -> None:
        """Wait until something is to be done, for so long at most."""
        leg = self.leg
        await _first_of(
            leg.placed.call.wait_ended(),
            self._stop.wait(),
            asyncio.sleep(max(0.0, seconds)),
            *([] if leg.stays else [leg.sent_away.wait()]),
            *([leg.silence.silent.wait()] if self._may_call_again() else []),
        )

    def _may_call_again(self) -> bool:
        return self._called_again is None or time.monotonic() - self._called_again > STEADY

    async def _move(self, spoken: float) -> bool:
        """Make the call that takes the place of this one, and leave this one; False if none comes about."""
        try:
            successor = await self._place_next()
        except DialError:
            return False
        await self._take_over(successor, spoken)
        return True

    async def _replace_lost(self, began: float) -> bool:
        """Call again because nothing comes any more, and drop that call if something comes before it is up.

        False if the call is over, and no other takes its place.
        """
        former = self.leg
        placing = asyncio.create_task(self._place_soon())
        again: tuple[asyncio.Task[Any], ...] = (
            () if former.placed.call.ended else (asyncio.create_task(former.silence.heard.wait()),)
        )
        try:
            await _first_done(placing, *again)
        except asyncio.CancelledError:
            if not placing.cancelled() and placing.exception() is None:
                await placing.result().close()
            raise
        if placing.cancelled():
            return True
        self._called_again = time.monotonic()
        try:
            successor = placing.result()
        except DialError:
            return not former.placed.call.ended
        await self._take_over(successor, time.monotonic() - began)
        return True

    async def _place_soon(self) -> _Leg:
        """Place it, and try again for a while: another media process may just be starting."""
        deadline = time.monotonic() + STEADY
        while True:
            try:
                return await self._place_next()
            except TokenRefused:
                raise
            except DialError:
                if self._stop.is_set() or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(AGAIN_AFTER)

    async def _place_next(self) -> _Leg:
        former = self.leg
        again = replace(self._dialling, moved_from=former.id_there, avoid=former.placed.node, ticket=None)
        return await _Leg.place(self._url, again, self._servers, self._stop)

    async def _take_over(self, successor: _Leg, spoken: float) -> None:
        former, self.leg = self.leg, successor
        try:
            self.moved += 1
            self._speak(spoken)
            await self._leave(former)
        finally:
            await former.close()

    def _speak(self, spoken: float) -> None:
        """Say what is left of the file, of which so many seconds were said."""
        if self._speech is not None:
            samples, rate = self._speech
            self.leg.placed.call.speaker.write(samples[round(spoken * rate) :], rate)

    async def _leave(self, leg: _Leg) -> None:
        self.end, heard, failed = await leg.end()
        self.heard.append(heard)
        self.program_failed = self.program_failed or failed


async def _first_of(*awaitables: Any) -> None:
    """Wait until the first of several things has happened, and drop the others."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


async def _first_done(*tasks: asyncio.Task[Any]) -> None:
    """Wait until the first of several tasks is done, and for the end of the others, which are cancelled."""
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _record(call: Call) -> Samples:
    """Collect what is heard, each frame at its media time, so that what was lost stays silent."""
    frames = [frame async for frame in call.microphone]
    if not frames:
        return np.zeros(0, np.int16)
    end = max(round(frame.media_time * frame.sample_rate) + len(frame) for frame in frames)
    heard = np.zeros(end, np.int16)
    for frame in frames:
        start = round(frame.media_time * frame.sample_rate)
        heard[start : start + len(frame)] = frame.samples
    return heard


def _sent(rtp: list[dict[str, Any]]) -> dict[str, Any]:
    """What we sent, and what the peer says that it lost of it (jitter in milliseconds)."""
    ours, view = _part(rtp, "outbound-rtp"), _part(rtp, "remote-inbound-rtp")
    return {
        "packets": ours.get("packetsSent", 0),
        "bytes": ours.get("bytesSent", 0),
        "lost": view.get("packetsLost"),
        "jitter_ms": _milliseconds(view.get("jitter")),
    }


def _received(rtp: list[dict[str, Any]]) -> dict[str, Any]:
    """What we received (jitter in milliseconds)."""
    theirs = _part(rtp, "inbound-rtp")
    return {
        "packets": theirs.get("packetsReceived", 0),
        "bytes": theirs.get("bytesReceived", 0),
        "lost": theirs.get("packetsLost", 0),
        "jitter_ms": _milliseconds(theirs.get("jitter")),
    }


def _part(rtp: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next((part for part in rtp if part["type"] == kind), {})


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 3)


def _check_writable(name: str) -> None:
    try:
        with open(name, "ab"):
            pass
    except OSError as error:
        raise LocalError(f"cannot write {name}: {error.strerror}") from error


def render(report: dict[str, Any]) -> str:
    """Return a report as text for people."""
    lines = [f"Call to {report['url']}: {report['end']}"]
    trips = {each["step"]: each["round_trips"] for each in report["setup"]}
    for name, ms in report["steps_ms"].items():
        counted = trips.get(name)
        lines.append(f"  {name:<24} {ms:>9.1f} ms" + ("" if counted is None else f" {counted:>7.2f} round trips"))
    dtls = report["dtls"]
    lines.append(f"  path    {report['path']}")
    lines += render_ice(report["ice"])
    lines.append(f"  DTLS    {dtls['version']}, {dtls['group']}, {dtls['cipher']}; SRTP {dtls['srtp_profile']}")
    for direction in ("sent", "received"):
        told = {name.replace("_", " "): value for name, value in report[direction].items() if value is not None}
        lines.append(f"  {direction:<9}{', '.join(f'{name} {value}' for name, value in told.items())}")
    rtt = report["round_trip_time_ms"]
    lines.append(f"  round-trip time {'unknown' if rtt is None else f'{rtt:.1f} ms'}")
    lines.append(f"  heard   {report['heard_seconds']:.2f} s")
    if report["moved"]:
        lines.append(f"  moved   {report['moved']} times to another machine")
    if report["program_failed"]:
        lines.append("  the program failed, and the server ended the call")
    return "\n".join(lines)
