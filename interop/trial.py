"""One call under trial, as a scenario sees it: two ends, the tap between them, and what is expected of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from interop.evidence import SIDES, Evidence, Level, Packet, Side, other
from interop.lab import content
from interop.peers.base import End, EndError, Traits, UnsupportedError, Wishes, tone_of
from interop.sound import Tone, levels
from interop.tap import Tap
from interop.verdict import Layer, Unexpected
from stack.session import EndReason

LISTEN_SECONDS = 1.2
CONNECT_PATIENCE = 12.0
"""Seconds to a connection; RFC 8445 and DTLS need a few in the worst case, and a loaded machine some more."""
MESSAGE_PATIENCE = 8.0
SMALL: Sequence[str | bytes] = ("hello", "", "grüße 🎧", b"\0", content(1_200, 1), b"")
LARGE: Sequence[str | bytes] = (content(60_000, 2), "x" * 30_000)


def _about(number: int, message: str | bytes) -> str:
    size = len(message.encode() if isinstance(message, str) else message)
    return f"message {number} ({'text' if isinstance(message, str) else 'binary'}, {size} bytes)"


Rewrite = Callable[[str], str]


@dataclass
class Trial:
    """A call between two ends. `client` and `server` are driven, `evidence` fills."""

    evidence: Evidence
    tap: Tap
    ends: dict[Side, End]
    traits: dict[Side, Traits]
    wishes: Wishes
    rewrite_offer: Rewrite = field(default=lambda sdp: sdp)
    """What a scenario does to the offer on its way."""

    @property
    def client(self) -> End:
        """The end that offers."""
        return self.ends["client"]

    @property
    def server(self) -> End:
        """The end that answers."""
        return self.ends["server"]

    async def _told(
        self, what: Awaitable[object], side: Side, expected: str, section: str, layer: Layer
    ) -> object:
        """Await what an end does; what it cannot do is a fault, whose side only the evidence can tell."""
        try:
            return await what
        except EndError as error:
            raise Unexpected(
                expected, section, f"{self.evidence.name(side)} says: {error}", layer=layer
            ) from error

    async def signal(self) -> None:
        """Exchange the descriptions."""
        self.tap.begin()
        expects = "an offer", "RFC 8829 §5.2.1"
        offer = str(await self._told(self.client.offer(self.wishes), "client", *expects, Layer.SIGNALLING))
        self.tap.step("offer made")
        self.evidence.offer = self.rewrite_offer(self.tap.rewrite_offer(offer))
        answering = self.server.accept(self.evidence.offer, self.wishes)
        answer = str(await self._told(answering, "server", "an answer", "RFC 8829 §5.3.1", Layer.SIGNALLING))
        self.tap.step("answer made")
        self.evidence.answer = answer
        try:
            rewritten = self.tap.rewrite_answer(answer)
        except ValueError as error:
            expected = "an answer with a UDP candidate over IPv4"
            layer = Layer.SIGNALLING
            raise Unexpected(expected, "RFC 8839 §4.2", str(error), layer=layer) from None
        expects = "the client to take the answer", "RFC 8829 §5.11"
        await self._told(self.client.answer(rewritten), "client", *expects, Layer.SIGNALLING)
        self.tap.step("answer taken")

    async def connect(self, patience: float = CONNECT_PATIENCE) -> None:
        """Exchange the descriptions and wait until both sides say that they are connected."""
        await self.signal()
        waiting = [asyncio.create_task(self._connected(side)) for side in ("server", "client")]
        try:
            async with asyncio.timeout(patience):
                await asyncio.gather(*waiting)
        except TimeoutError:
            missing = [side for side in ("client", "server") if f"{side} connected" not in self.evidence.steps]
            raise Unexpected(
                "a connection, and the channel that the client opens",
                "RFC 8829 §5.11, RFC 8832 §6",
                f"no sign of it at the {' and the '.join(missing)} within {patience:g} s",
                layer=Layer.DATA if len(missing) == 1 else Layer.DTLS,
                rule="connection",
            ) from None
        finally:
            for task in waiting:
                task.cancel()

    async def _connected(self, side: Side) -> None:
        expects = "a connection, and the channel that the client opens", "RFC 8829 §5.11, RFC 8832 §6"
        await self._told(self.ends[side].connected(), side, *expects, Layer.DTLS)
        self.tap.step(f"{side} connected")

    async def stay(self, seconds: float) -> None:
        """Let the call go on; `Unexpected` if an end of ours says that it is over."""
        end = self.tap.now() + seconds
        while self.tap.now() < end:
            self.stands()
            await asyncio.sleep(0.05)

    def stands(self) -> None:
        """The call is not over."""
        for side, end in self.ends.items():
            if end.ended is not None:
                self.evidence.ends[side] = end.ended
                expected = "the call to go on until a side leaves"
                raise Unexpected(expected, "RFC 7675 §5.1", f"its end at the {side}: {end.ended}", layer=Layer.END)

    async def hears(self, side: Side, *, purity: float = 0.9, decibels: float = 1.0) -> Tone | None:
        """A side hears the tone of the other, as pure and as loud as it was sent."""
        self.stands()
        if not self.traits[side].hears:
            return None
        expects = f"sound at the {side}", "RFC 3264 §6.1"
        heard = await self._told(self.ends[side].listen(LISTEN_SECONDS), side, *expects, Layer.SOUND)
        if heard is None:
            return None
        samples, rate = heard  # type: ignore[misc]
        at = self.tap.now() - len(samples) / rate
        rms = levels(np.asarray(samples), rate)
        self.evidence.levels[side] += [Level(at + 0.1 * number, each) for number, each in enumerate(rms)]
        tone = Tone.measure(samples, rate)
        speaker = other(side)
        echoed = self.traits[speaker].echoes
        if not echoed and not self.traits[speaker].can_be_asked:
            return self._some_sound(side, tone)
        hertz = tone_of(side if echoed else speaker)
        level = self.traits[side if echoed else speaker].level
        expected = f"{hertz} Hz at {20 * np.log10(level):.0f} dBFS at the {side}, sent by the {speaker}"
        seen = str(tone)
        right = abs(tone.hertz - hertz) <= 2 and tone.purity > purity
        right = right and abs(20 * np.log10(max(tone.amplitude, 1e-6) / level)) < decibels
        if not right:
            raise Unexpected(expected, "RFC 7587 §4, RFC 3551 §4.5.14", seen, layer=Layer.SOUND)
        self.tap.step(f"{side} hears the {speaker}")
        return tone

    def _some_sound(self, side: Side, tone: Tone) -> Tone:
        """What a server says that was not told what to say: anything but silence."""
        if tone.decibels < -60:
            expected = (
                f"sound at the {side} (a server that is silent until it is spoken to needs --echoes or words)"
            )
            raise Unexpected(expected, "RFC 3264 §6.1", "silence: its RTP packets hold no sound")
        self.tap.step(f"{side} hears the {other(side)}")
        return tone

    async def silent(self, side: Side) -> None:
        """A side hears nothing."""
        heard = await self.ends[side].listen(LISTEN_SECONDS)
        tone = None if heard is None else Tone.measure(*heard)
        if tone is not None and tone.decibels > -50:
            raise Unexpected(f"silence at the {side}", "RFC 3264 §8.4", str(tone), layer=Layer.SOUND)

    async def messages(self, messages: Sequence[str | bytes]) -> None:
        """Each message arrives as it was sent, both ways, in order."""
        if not all(traits.has_data for traits in self.traits.values()):
            return
        both = all(traits.knows_empty for traits in self.traits.values())
        chosen = [message for message in messages if message or both]
        if self.traits["server"].echoes:
            await self._carry("client", "client", chosen)
            return
        if not all(traits.can_be_asked for traits in self.traits.values()):
            raise UnsupportedError("whether messages arrive shows only in a server that returns them (--echoes)")
        for sender in SIDES:
            await self._carry(sender, other(sender), chosen)
            if not both and "" in messages and self.traits[sender].knows_empty:
                await self._carry_nothing(sender, other(sender))

    async def _carry(self, sender: Side, receiver: Side, messages: Sequence[str | bytes]) -> None:
        section = "RFC 8831 §6.6, §8"
        for number, message in enumerate(messages, 1):
            expected = f"the {sender} to send {_about(number, message)}"
            await self._told(self.ends[sender].send(message), sender, expected, section, Layer.DATA)
        for number, message in enumerate(messages, 1):
            expected = f"{_about(number, message)} of the {sender} at the {receiver}"
            got = await self._received(receiver, expected, section)
            if got != message:
                raise Unexpected(expected, section, _about(number, got), layer=Layer.DATA)
        self.tap.step(f"messages of the {sender} arrived")

    async def _received(self, receiver: Side, expected: str, section: str) -> str | bytes:
        try:
            async with asyncio.timeout(MESSAGE_PATIENCE):
                got = await self._told(self.ends[receiver].receive(), receiver, expected, section, Layer.DATA)
        except TimeoutError:
            raise Unexpected(expected, section, "nothing", layer=Layer.DATA) from None
        return got  # type: ignore[return-value]

    async def _carry_nothing(self, sender: Side, receiver: Side) -> None:
        """A stack that mistakes the kind of an empty message still gets one that is empty (RFC 8831 §6.6)."""
        expected, section = f"an empty message of the {sender} at the {receiver}", "RFC 8831 §6.6"
        await self._told(self.ends[sender].send(""), sender, expected, section, Layer.DATA)
        got = await self._received(receiver, expected, section)
        if got:
            raise Unexpected(expected, section, _about(1, got), layer=Layer.DATA)

    async def leave(self, side: Side) -> None:
        """A side closes its connection, and the other is told on the path."""
        self.evidence.hung_up_at = self.tap.now()
        await self.ends[side].hang_up()
        told = other(side)
        expected = f"the {told} to learn on the path that the {side} has left"
        section = "RFC 8446 §6.1, RFC 9260 §9.1"
        try:
            async with asyncio.timeout(8):
                await self._told(self.ends[told].wait_ended(), told, expected, section, Layer.END)
        except TimeoutError:
            raise Unexpected(expected, section, "no sign of it within 8 s", layer=Layer.END) from None
        self.tap.step(f"{told} was told of the end")
        for each, reason in ((told, EndReason.PEER_CLOSED), (side, EndReason.HUNG_UP)):
            said = self.ends[each].ended
            if said is not None and not said.startswith(reason.value):
                where = f"the end at the {each} to be told as {reason.value!r}"
                raise Unexpected(where, section, repr(said), layer=Layer.END)

    def last(self, side: Side) -> Packet | None:
        """The latest packet of a side."""
        return next((packet for packet in reversed(self.evidence.packets) if packet.side == side), None)
