"""What still leaves after the decision to stop: whole calls in virtual time, interrupted again and again.

Two endpoints with everything between them (ICE, DTLS, SRTP, SCTP) on a network that delays and jitters. The
program writes a minute of speech at once; the person speaks after a second of it. A packet of the reply that
leaves later than the call of `AudioSender.hold` or `AudioSender.drop` is counted where it reaches the network.
Only what is done after a decision is measured here, so the detector is the one that goes by the level.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from interop.network_model import Jitter, NetworkModel
from stack.core.machine import Path
from stack.session import Connected
from stack.voice import TurnSettings
from stack.voice.commands import BeginReply, EndReply, Listen, Write, WriteReply
from stack.voice.config import ConversationConfig
from tests.sim.calls import CallPair

RATE = 16_000
QUEUED = 60.0
"""Seconds of speech that wait when the person speaks."""
IN_A_CALL = 20
NETWORK = NetworkModel(delay=0.03, jitter=Jitter(0.01))


@dataclass
class Stops:
    """What became of the interrupted replies of some calls."""

    late: list[int] = field(default_factory=list)
    """Packets of each reply that left after the decision."""
    drop_ms: list[float] = field(default_factory=list)
    """Wall time of emptying the queue."""
    whole_ms: list[float] = field(default_factory=list)
    """Wall time of the whole call of the machine in which that was done: decode, detect, decide, drop, tell."""
    dropped: list[float] = field(default_factory=list)
    """Seconds of speech that were in the queue."""


def voice(seconds: float, frequency: float) -> np.ndarray:
    """Return something that a detector of levels takes for speech."""
    at = np.arange(round(seconds * RATE)) / RATE
    return (3000 * sum(np.sin(2 * np.pi * frequency * k * at) / k for k in range(1, 6))).astype(np.int16)


class InterruptedCall(CallPair):
    """A call whose server counts what leaves, and times how it falls silent."""

    def __init__(self, seed: int, settings: TurnSettings, stops: Stops) -> None:
        config = ConversationConfig(detector="energy", echo="off", turns=settings)
        super().__init__(model=NETWORK, seed=seed, server=config)
        self._stops = stops
        self._sent = 0
        self._decided: int | None = None  # packets that had left by the decision
        self._took: float | None = None
        assert self.run(10, lambda: all(host.seen(Connected) for host in self.hosts))
        self._count_what_leaves()
        self._time_what_is_done()
        self.right.handle(Listen())
        self._speech, self._noise = voice(QUEUED, 300), np.random.default_rng(seed)

    def interrupt(self, speech: float) -> None:
        """Let the program write a minute, and the person speak over it for so many seconds."""
        self._decided = None
        before = len(self._stops.dropped)
        self.right.command(self._reply)
        quiet = [self._noise.normal(0, 10, round(seconds * RATE)).astype(np.int16) for seconds in (1.0, 1.6)]
        said = np.concatenate([quiet[0], voice(speech, 200), quiet[1]])
        self.left.handle(Write(said, RATE))
        self.run(1.0 + speech + 1.5)
        if self._decided is None or len(self._stops.dropped) == before:
            raise AssertionError("the reply was not stopped")
        self._stops.late.append(self._sent - self._decided)

    def _reply(self, conversation: Any, now: float) -> None:
        number = conversation.handle_command(BeginReply(), now)
        conversation.handle_command(WriteReply(number, self._speech, RATE), now)
        conversation.handle_command(EndReply(number), now)

    def _count_what_leaves(self) -> None:
        carry = self.network.carry

        def counted(sender: Any, data: bytes, path: Path) -> None:
            # RFC 5761 §4: of what looks like RTP, these payload types are RTCP's.
            if sender is self.right and data[0] >> 6 == 2 and not 192 <= data[1] <= 223:
                self._sent += 1
            carry(sender, data, path)

        self.network.carry = counted  # type: ignore[method-assign]

    def _time_what_is_done(self) -> None:
        machine: Any = self.right.machine
        sender = machine.line.sender
        hold, drop, handle = sender.hold, sender.drop, machine.handle_datagrams
        wake = machine.handle_timeout

        def held() -> None:
            hold()
            self._decide()

        def dropped(now: float) -> int:
            self._stops.dropped.append(sender.queued)
            began = perf_counter()
            samples: int = drop(now)
            self._took = perf_counter() - began
            self._decide()
            return samples

        def timed(call: Any) -> Any:
            def during(*arguments: Any) -> None:
                self._took = None
                began = perf_counter()
                call(*arguments)
                if self._took is not None:
                    self._stops.whole_ms.append(1000 * (perf_counter() - began))
                    self._stops.drop_ms.append(1000 * self._took)
                    self._took = None

            return during

        sender.hold, sender.drop = held, dropped
        machine.handle_datagrams, machine.handle_timeout = timed(handle), timed(wake)

    def _decide(self) -> None:
        if self._decided is None:
            self._decided = self._sent


def interrupted(count: int, seed: int, settings: TurnSettings, speech: float) -> Stops:
    """Interrupt `count` replies, `IN_A_CALL` in each call."""
    stops = Stops()
    for first in range(0, count, IN_A_CALL):
        call = InterruptedCall(seed + first, settings, stops)
        for _ in range(min(IN_A_CALL, count - first)):
            call.interrupt(speech)
    return stops
