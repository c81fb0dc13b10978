"""One call under trial, as a scenario sees it: two ends, the tap between them, and what is expected of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from interop.diagnosis.media import may_send
from interop.evidence import SIDES, Evidence, Fate, Level, Packet, Side, other
from interop.lab import content
from interop.peers.base import (
    ChannelKind,
    DialectError,
    End,
    EndError,
    NoAnswerError,
    Traits,
    UnsupportedError,
    Wishes,
    tone_of,
)
from interop.sound import Tone, levels
from interop.tap import Tap
from interop.verdict import NO_ANSWER, Layer, Unexpected
from interop.wire_reading import Kind
from stack.session import EndReason

LISTEN_SECONDS = 1.2
LISTEN_TIMES = 3
"""A machine that stalls leaves a gap in a tone; one that is wrong is so each time."""
SPEECH_PATIENCE = 4.0
"""Seconds in which one begins to speak that was not told to."""
CONNECT_PATIENCE = 12.0
"""Seconds to a connection; RFC 8445 and DTLS need a few in the worst case, and a loaded machine some more."""
MESSAGE_PATIENCE = 8.0
SMALL: Sequence[str | bytes] = ("hello", "", "grüße 🎧", b"\0", content(1_200, 1), b"")
LARGE: Sequence[str | bytes] = (content(60_000, 2), "x" * 30_000)


def about(number: int, message: str | bytes) -> str:
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
    rewrite_answer: Rewrite = field(default=lambda sdp: sdp)
    """What a scenario does to the answer on its way."""
    client_offer: str = ""
    """As the client made it."""
    others: Sequence[Trial] = ()
    """The further calls of a scenario that makes several at once."""
    culprit: Evidence | None = None
    """Of several calls, the one in which an expectation did not hold."""

    @property
    def calls(self) -> Sequence[Trial]:
        """Every call of the scenario, this one first."""
        return (self, *self.others)

    async def in_every_call(self, act: Callable[[Trial], Awaitable[object]]) -> None:
        """Do something in every call at once; what fails first is the verdict's."""

        async def watched(trial: Trial) -> None:
            try:
                await act(trial)
            except Unexpected:
                self.culprit = self.culprit or trial.evidence
                raise

        async with asyncio.TaskGroup() as tasks:
            for trial in self.calls:
                tasks.create_task(watched(trial))

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
        except DialectError as error:
            seen, rule = self.tap.hide_itself(error.seen), "dialect"
            raise Unexpected(error.expected, error.section, seen, side=side, layer=layer, rule=rule) from error
        except EndError as error:
            said = self.tap.hide_itself(f"{self.evidence.name(side)} says: {error}")
            rule = NO_ANSWER if isinstance(error, NoAnswerError) else ""
            raise Unexpected(expected, section, said, layer=layer, rule=rule) from error

    async def signal(self) -> None:
        """Exchange the descriptions."""
        self.tap.begin()
        expects = "an offer", "RFC 8829 §5.2.1"
        offer = str(await self._told(self.client.offer(self.wishes), "client", *expects, Layer.SIGNALLING))
        self.tap.step("offer made")
        self.client_offer = offer
        self.evidence.offer = self.rewrite_offer(self.tap.rewrite_offer(offer))
        answering = self.server.accept(self.evidence.offer, self.wishes)
        answer = str(await self._told(answering, "server", "an answer", "RFC 8829 §5.3.1", Layer.SIGNALLING))
        self.tap.step("answer made")
        await self._take(answer)

    async def negotiate_again(self) -> None:
        """A further offer of the client, which restarts ICE, and its answer."""
        expects = "an offer that restarts ICE", "RFC 8829 §5.2.2"
        self.client_offer = str(await self._told(self.client.restart(), "client", *expects, Layer.SIGNALLING))
        self.evidence.offer = self.tap.rewrite_offer(self.client_offer)
        answering = self.server.accept_again(self.evidence.offer)
        expects = "an answer to a further offer", "RFC 8829 §5.3.2"
        await self._take(str(await self._told(answering, "server", *expects, Layer.SIGNALLING)))
        self.tap.step("ICE restarted")

    async def _take(self, answer: str) -> None:
        """Hand the answer to the client."""
        self.evidence.answer = answer
        try:
            rewritten = self.rewrite_answer(self.tap.rewrite_answer(answer))
        except ValueError as error:
            expected = f"an answer with a UDP candidate over IPv{self.tap.ip}"
            layer = Layer.SIGNALLING
            raise Unexpected(expected, "RFC 8839 §4.2", str(error), layer=layer) from None
        expects = "the client to take the answer", "RFC 8829 §5.11"
        await self._told(self.client.answer(rewritten), "client", *expects, Layer.SIGNALLING)
        self.tap.step("answer taken")

    async def connect(self, patience: float = CONNECT_PATIENCE) -> None:
        """Exchange the descriptions and wait until both sides say that they are connected."""
        await self.signal()
        await self.established(patience)

    async def established(self, patience: float = CONNECT_PATIENCE) -> None:
        """Wait until both sides say that they are connected."""
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

    async def pause(self, seconds: float) -> None:
        """Let time pass, whatever becomes of the call."""
        await asyncio.sleep(seconds)

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
        if side == "client" and not self.traits[side].can_be_asked:
            side = "server"  # what a visiting client hears it does not say: its own sound is what can be judged
        if not self.traits[side].hears:
            return None
        speaker = other(side)
        if not self.traits[speaker].can_be_asked and not may_send(self.evidence, speaker):
            self.evidence.facts[f"sound of the {speaker}"] = "none: the answer takes the other direction alone"
            await self.stay(LISTEN_SECONDS)
            return None
        echoed = self.traits[speaker].echoes
        if not echoed and not self.traits[speaker].can_be_asked:
            return await self._hears_something(side)
        hertz = tone_of(side if echoed else speaker)
        level = self.traits[side if echoed else speaker].level
        for _ in range(LISTEN_TIMES):
            tone = await self._listen(side)
            if tone is None:
                return None
            right = abs(tone.hertz - hertz) <= 2 and tone.purity > purity
            if right and abs(20 * np.log10(max(tone.amplitude, 1e-6) / level)) < decibels:
                self.tap.step(f"{side} hears the {speaker}")
                return tone
        expected = f"{hertz} Hz at {20 * np.log10(level):.0f} dBFS at the {side}, sent by the {speaker}"
        raise Unexpected(expected, "RFC 7587 §4, RFC 3551 §4.5.14", str(tone), layer=Layer.SOUND)

    async def _listen(self, side: Side) -> Tone | None:
        """What a side hears now; None if it cannot be asked."""
        expects = f"sound at the {side}", "RFC 3264 §6.1"
        heard = await self._told(self.ends[side].listen(LISTEN_SECONDS), side, *expects, Layer.SOUND)
        if heard is None:
            return None
        samples, rate = heard  # type: ignore[misc]
        at = self.tap.now() - len(samples) / rate
        rms = levels(np.asarray(samples), rate)
        self.evidence.levels[side] += [Level(at + 0.1 * number, each) for number, each in enumerate(rms)]
        return Tone.measure(samples, rate)

    async def _hears_something(self, side: Side) -> Tone | None:
        """A side hears one that was not told what to say: anything but silence."""
        speaker, began, loudest = other(side), self.tap.now(), -120.0
        while self.tap.now() < began + SPEECH_PATIENCE:
            tone = await self._listen(side)
            if tone is None:
                return None
            if not tone.is_silence:
                self.tap.step(f"{side} hears the {speaker}")
                return tone
            loudest = max(loudest, tone.decibels)
        packets, seconds = len(self.sent_since(began, speaker, Kind.RTP)), self.tap.now() - began
        seen = f"silence: no RTP packet in {seconds:.1f} s"
        if packets:
            level = "nothing at all" if loudest <= -90 else f"{loudest:.0f} dBFS at the loudest"
            seen = f"silence: {packets} RTP packets in {seconds:.1f} s, which hold {level}"
        if speaker == "client":
            expected = "sound from the client, a tone, speech or any noise: sound is what is judged here"
            raise Unexpected(expected, "RFC 3264 §6.1", seen, side=speaker, rule="silence")
        expected = f"sound at the {side} (a server that is silent until it is spoken to needs --echoes or words)"
        raise Unexpected(expected, "RFC 3264 §6.1", seen)

    async def silent(self, side: Side) -> None:
        """A side hears nothing, or what two codecs make of nothing."""
        self.stands()
        try:
            heard = await self.ends[side].listen(LISTEN_SECONDS)
        except EndError:
            return  # no packet at all: the other side leaves silence out
        tone = None if heard is None or not len(heard[0]) else Tone.measure(*heard)
        if tone is not None and not tone.is_silence:
            raise Unexpected(
                f"silence at the {side}: the {other(side)} is muted",
                "RFC 7587 §3.1.3",
                str(tone),
                layer=Layer.SOUND,
            )

    async def mute(self, side: Side, is_muted: bool, settle: float = 0.8) -> None:
        """Have a side send silence, or its tone again; return `settle` seconds later: buffers are long."""
        self.evidence.speaks -= {side, other(side)} if self.traits[other(side)].echoes else {side}
        await self._told(
            self.ends[side].mute(is_muted), side, f"the {side} to be muted", "RFC 8834 §3", Layer.SOUND
        )
        await self.stay(settle)

    @property
    def shows_messages(self) -> bool:
        """Whether there are messages, and it can be seen what became of them."""
        if not self.wishes.data:
            return False
        return self.traits["server"].echoes_messages or all(traits.can_be_asked for traits in self.traits.values())

    async def also_messages(self, messages: Sequence[str | bytes]) -> None:
        """Messages arrive, too, where that can be seen."""
        if self.shows_messages:
            await self.messages(messages)

    async def told(self, what: Awaitable[object], expected: str, section: str) -> object:
        """Have an end do something about the path; what it cannot do is a fault."""
        return await self._told(what, "client", expected, section, Layer.ICE)

    async def opens(self, side: Side, label: str, kind: ChannelKind) -> None:
        """A side opens a further channel."""
        expected = f"the channel {label!r} to open at the {side}"
        await self._told(self.ends[side].open_channel(label, kind), side, expected, "RFC 8832 §6", Layer.DATA)

    async def channel(self, side: Side, label: str) -> dict[str, Any]:
        """A side sees a channel; what it says of it."""
        expected = f"the channel {label!r} at the {side}"
        found = await self._told(self.ends[side].channel(label), side, expected, "RFC 8832 §6", Layer.DATA)
        return found  # type: ignore[return-value]

    async def carries(self, label: str) -> None:
        """A channel takes messages both ways."""
        section = "RFC 8831 §6.6"
        for sender in SIDES:
            receiver = other(sender)
            await self.channel(sender, label)
            sent: Sequence[str | bytes] = (f"from the {sender}", content(3_000, len(label)))
            for message in sent:
                expected = f"the {sender} to send on {label!r}"
                await self._told(self.ends[sender].send_on(label, message), sender, expected, section, Layer.DATA)
            for number, message in enumerate(sent, 1):
                expected = f"{about(number, message)} of the {sender} at the {receiver} on {label!r}"
                got = await self.received(receiver, expected, section, label)
                if got != message:
                    raise Unexpected(expected, section, about(number, got), layer=Layer.DATA)

    async def closes(self, side: Side, label: str) -> None:
        """A side closes a channel, and both see it closed."""
        section = "RFC 8831 §6.7"
        closing = self.ends[side].close_channel(label)
        await self._told(closing, side, f"the {side} to close {label!r}", section, Layer.DATA)
        for each in SIDES:
            expected = f"{label!r} to be closed at the {each}, by the {side}"
            await self._told(self.ends[each].channel_closed(label), each, expected, section, Layer.DATA)

    async def messages(self, messages: Sequence[str | bytes], senders: Sequence[Side] = SIDES) -> None:
        """Each message arrives as it was sent, both ways, in order."""
        if not self.wishes.data:
            raise UnsupportedError("the call was made without data channels")
        both = all(traits.knows_empty for traits in self.traits.values())
        chosen = [message for message in messages if message or both]
        if self.traits["server"].echoes_messages:
            if "client" in senders:
                await self._carry("client", "client", chosen)
            return
        if not self.shows_messages:
            raise UnsupportedError(
                "whether messages arrive shows only in a server that returns them (--echoes all)"
            )
        for sender in senders:
            await self._carry(sender, other(sender), chosen)
            if not both and "" in messages and self.traits[sender].knows_empty:
                await self._carry_nothing(sender, other(sender))

    async def _carry(self, sender: Side, receiver: Side, messages: Sequence[str | bytes]) -> None:
        section = "RFC 8831 §6.6, §8"
        for number, message in enumerate(messages, 1):
            expected = f"the {sender} to send {about(number, message)}"
            await self._told(self.ends[sender].send(message), sender, expected, section, Layer.DATA)
        for number, message in enumerate(messages, 1):
            expected = f"{about(number, message)} of the {sender} at the {receiver}"
            got = await self.received(receiver, expected, section)
            if got != message:
                raise Unexpected(expected, section, about(number, got), layer=Layer.DATA)
        self.tap.step(f"messages of the {sender} arrived")

    async def received(self, receiver: Side, expected: str, section: str, label: str = "") -> str | bytes:
        """The next message at a side, of a further channel if it is named."""
        end = self.ends[receiver]
        receiving = end.receive_on(label) if label else end.receive()
        try:
            async with asyncio.timeout(MESSAGE_PATIENCE):
                got = await self._told(receiving, receiver, expected, section, Layer.DATA)
        except TimeoutError:
            raise Unexpected(expected, section, "nothing", layer=Layer.DATA) from None
        return got  # type: ignore[return-value]

    async def _carry_nothing(self, sender: Side, receiver: Side) -> None:
        """A stack that mistakes the kind of an empty message still gets one that is empty (RFC 8831 §6.6)."""
        expected, section = f"an empty message of the {sender} at the {receiver}", "RFC 8831 §6.6"
        await self._told(self.ends[sender].send(""), sender, expected, section, Layer.DATA)
        got = await self.received(receiver, expected, section)
        if got:
            raise Unexpected(expected, section, about(1, got), layer=Layer.DATA)

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

    def waits(self, side: Side) -> float:
        """Seconds beyond the expiry of consent for which a side waits for the other to come back."""
        return self.traits[side].waits_for_return if side == "server" else 0.0

    async def learns_of_the_end(self, side: Side, patience: float, expected: str, section: str) -> None:
        """A side is told, or finds out, that the call is over."""
        end = self.tap.now() + patience
        seen = f"no sign of it within {patience:g} s"
        while self.tap.now() < end:
            try:
                async with asyncio.timeout(end - self.tap.now()):
                    await self.ends[side].wait_ended()
            except EndError as error:
                seen = f"{self.evidence.name(side)} says after {patience:g} s: {error}"
                await asyncio.sleep(0.1)
            except TimeoutError:
                break
            else:
                self.tap.step(f"{side} knows of the end")
                return
        raise Unexpected(expected, section, seen, layer=Layer.END)

    def sent_since(self, at: float, side: Side, kind: Kind) -> list[Packet]:
        """What a side has sent since an instant, whether or not either has left by then."""
        sent = (p for p in self.evidence.packets if p.side == side and p.kind is kind and p.at > at)
        return [packet for packet in sent if packet.fate is not Fate.FORGED]
