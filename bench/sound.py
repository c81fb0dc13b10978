"""Sound through bad networks: both jitter buffers and aiortc's receive path, fed the very same packets.

Recorded speech (Debian's pocketsphinx-testdata) is encoded by our Opus encoder at 24 kb/s, sent every 20 ms
through `interop.network_model` in virtual time, and received four ways:

- arrival: `ArrivalReceiver`, the frames put in their places on the sender's timeline;
- clock: `ClockReceiver`, 20 ms pulled every 20 ms, as it would be played;
- aiortc: its JitterBuffer(16, prefetch 4) and its decoder, the frames put in their places by their timestamps,
  which is the kindest way to hear them;
- aiortc, played: the same frames taken from its queue every 20 ms, silence when there is none: what a person
  hears when they are played.

Then networks that stall (`_stalls.py`), or the one of `--trace FILE` alone: the clock at both of its costs, aiortc
played, buffers of a fixed delay that play what has come by then (they are told the fastest packet beforehand), and
the curve of delay against made-up sound. All decode at 48 kHz there, as aiortc does, so that what differs is the
buffer; `stretched` is the share of the sound that was put in or cut out to change the delay.

"red" rows carry redundancy (RFC 2198) as our sender would: its depth follows the loss reported each second.
aiortc cannot receive it and gets the same packets without. Delay is what the receiver adds: from a packet's own
arrival to when its sound is handed out (played: to when it is played). "made up" is the share of the sound that
is not from packets (silence, for aiortc). PESQ is wideband, against the original, the mean over the sentences;
PLCMOS (if the extra `plcmos` is installed) needs no reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import ceil
from pathlib import Path
from statistics import fmean, quantiles
from typing import Any, NamedTuple

import numpy as np

from bench._progress import say
from bench._speech import FRAME, PACKET, RATE, TICKS, AudioReceived, Judge, Speech
from bench._stalls import MODELS, PATH_DELAY, SentTrace, stalling
from bench.report import Cell, Curves, Options, Table
from interop.network_model import GilbertElliott, Jitter, Link, NetworkModel
from stack.audio import (
    ArrivalReceiver,
    ClockReceiver,
    OpusDecoder,
    Samples,
    resample,
)
from stack.audio.receive import DecoderStage
from stack.rtp import ArrivalBuffer, ClockBuffer, Decode, JitterPacket, Missing
from stack.rtp.red import RedDepth, RedEncoder, RedPayload
from stack.rtp.stalls import CONVERSATION, PLAYOUT_COSTS, PlayoutCost

PAYLOAD_TYPE = 111
TICK_PHASE = 0.007
"""How long after the first packet the player's first tick comes: its clock knows nothing of the sender's."""

LOSSES = ((0.0, False), (0.02, False), (0.05, False), (0.1, False), (0.2, False), (0.02, True), (0.05, True))
LOSSES += ((0.1, True), (0.2, True))
JITTERS = (0.0, 0.02, 0.06, 0.12)
BURST = 3.0
FIGURES = ("p50 ms", "p95 ms", "p99 ms", "made up %", "PESQ")
ONCE, MOST_ONCES = 28.0, 20
"""Seconds that all sentences last, and how often they are said at most to fill a trace."""
AIORTC_RATE = 48_000


class Arrival(NamedTuple):
    """A packet at the receiver: as it was sent, its number, and when it came."""

    at: float
    number: int
    payload: bytes


def send(payloads: Sequence[bytes], model: NetworkModel, seed: int, *, red: bool) -> list[Arrival]:
    """Send one packet every 20 ms; return what arrives, in the order of arrival."""
    link = Link(model, seed)
    encoder, depth = RedEncoder(), RedDepth()
    arrivals: list[Arrival] = []
    lost = 0
    for number, payload in enumerate(payloads):
        now = number * FRAME
        if red:
            payload = encoder.encode(PAYLOAD_TYPE, number * TICKS, payload, depth.depth).serialize()
        instants = link.transit(len(payload) + 12 + 16, now)
        arrivals += [Arrival(at, number, payload) for at in instants]
        lost += not instants
        if number % 50 == 49:  # a receiver report each second
            depth.update(lost / 50, now)
            lost = 0
    return sorted(arrivals)


def unpack(arrival: Arrival, *, red: bool) -> Iterator[tuple[int, bytes, bool]]:
    """Yield the number, payload and whether it is redundancy, of all that a packet carries, oldest first."""
    if not red:
        yield arrival.number, arrival.payload, False
        return
    parsed = RedPayload.parse(arrival.payload)
    for back, block in zip(range(len(parsed.redundant), 0, -1), parsed.redundant, strict=True):
        yield arrival.number - back, block.payload, True
    yield arrival.number, parsed.payload, False


def first_arrivals(arrivals: Sequence[Arrival]) -> dict[int, float]:
    """When each packet came first."""
    return {arrival.number: arrival.at for arrival in reversed(arrivals)}


def hear_on_arrival(speech: Speech, arrivals: Sequence[Arrival], red: bool) -> AudioReceived:
    """Receive with the `arrival` buffer."""
    receiver = ArrivalReceiver(OpusDecoder(RATE), ArrivalBuffer())
    came = first_arrivals(arrivals)
    offset = arrivals[0].number * FRAME
    heard = AudioReceived(np.zeros(len(speech.samples) + RATE, np.int16))

    def put(frames: list[Any], now: float) -> None:
        for frame in frames:
            at = round((frame.media_time + offset) * RATE)
            heard.sound[at : at + len(frame)] = frame.samples
            number = round((frame.media_time + offset) / FRAME)
            if not frame.concealed and number in came:
                heard.delays.append(now - came[number])

    for arrival in arrivals:
        while (deadline := receiver.poll_timeout()) is not None and deadline <= arrival.at:
            put(receiver.handle_timeout(deadline), deadline)
        carried = list(unpack(arrival, red=red))
        receiver.buffer.red_depth = len(carried) - 1
        for number, payload, is_copy in carried:
            put(receiver.insert(payload, number, number * TICKS, arrival.at, is_copy), arrival.at)
    statistics = receiver.statistics
    heard.made_up = statistics.concealed_samples / max(1, statistics.total_samples_received)
    return heard


Receiver = Callable[[Speech, Sequence[Arrival], bool], AudioReceived]


class WatchedBuffer(ClockBuffer):
    """Notes when each packet is played."""

    def __init__(self, cost: PlayoutCost) -> None:
        super().__init__(cost=cost)
        self.played: list[tuple[int, float]] = []

    def pull(self, now: float, backlog: float = 0.0) -> list[Any]:
        items = super().pull(now, backlog)
        at = now + backlog
        for item in items:
            if isinstance(item, Decode):
                self.played.append((item.packet.sequence, at))
            at += item.duration / 48_000
        return items


def hear_on_the_clock(
    speech: Speech,
    arrivals: Sequence[Arrival],
    red: bool,
    cost: PlayoutCost = CONVERSATION,
    rate: int = RATE,
) -> AudioReceived:
    """Receive with the `clock` buffer, as played."""
    buffer = WatchedBuffer(cost)
    receiver = ClockReceiver(OpusDecoder(rate), buffer)
    came = first_arrivals(arrivals)
    waiting = list(reversed(arrivals))
    start = now = arrivals[0].at + TICK_PHASE
    parts = []
    while waiting or buffer.held:
        while waiting and waiting[-1].at <= now:
            arrival = waiting.pop()
            for number, payload, is_copy in unpack(arrival, red=red):
                receiver.insert(payload, number, number * TICKS, arrival.at, is_copy)
        parts.append(receiver.tick(now).samples)
        now += FRAME
    statistics = receiver.statistics
    total = max(1, statistics.total_samples_received)
    changed = statistics.inserted_samples_for_deceleration + statistics.removed_samples_for_acceleration
    return AudioReceived(
        resample(np.concatenate(parts), rate, RATE),
        [at - came[number] for number, at in buffer.played if number in came],
        statistics.concealed_samples / total,
        {number: round((at - start) * RATE) for number, at in buffer.played},
        changed / total,
    )


def hear_fixed(delay: float, rate: int = RATE) -> Receiver:
    """Return a receiver that plays each packet `delay` seconds after the fastest could have come, or never."""

    def hear(speech: Speech, arrivals: Sequence[Arrival], red: bool) -> AudioReceived:
        fastest = min(arrival.at - arrival.number * FRAME for arrival in arrivals)
        came = first_arrivals(arrivals)
        stage = DecoderStage(OpusDecoder(rate))
        first: dict[int, tuple[float, bytes]] = {}
        for arrival in arrivals:
            for number, payload, _ in unpack(arrival, red=red):
                first.setdefault(number, (arrival.at, payload))

        def packet(number: int, now: float) -> JitterPacket | None:
            at, payload = first.get(number, (now + 1, b""))
            return stage.packet(payload, number, number * TICKS, at, False) if at <= now else None

        parts, places = [], {}
        last = max(first)
        for number in range(last + 1):
            now = fastest + delay + number * FRAME
            here = packet(number, now)
            item = Decode(here) if here else Missing(number * TICKS, TICKS, packet(number + 1, now))
            parts.append(stage.render(item, now)[0])
            if here:
                places[number] = number * PACKET
        delays = [fastest + delay + number * FRAME - came[number] for number in places if number in came]
        sound = np.concatenate(parts)
        made_up = stage.statistics.concealed_samples / len(sound)
        return AudioReceived(resample(sound, rate, RATE), delays, made_up, places)

    return hear


def aiortc_frames(arrivals: Sequence[Arrival], red: bool) -> list[tuple[float, int, Samples]]:
    """Drive aiortc's jitter buffer and decoder as its receiver does: (when, packet number, 48 kHz)."""
    from aiortc.codecs.opus import OpusDecoder as AiortcDecoder
    from aiortc.jitterbuffer import JitterBuffer
    from aiortc.rtp import RtpPacket

    buffer, decoder = JitterBuffer(capacity=16, prefetch=4), AiortcDecoder()
    out = []
    for arrival in arrivals:
        *_, (number, payload, _) = unpack(arrival, red=red)
        packet = RtpPacket(payload_type=PAYLOAD_TYPE, sequence_number=number, timestamp=number * TICKS)
        packet.payload = packet._data = payload  # type: ignore[attr-defined]
        _, frame = buffer.add(packet)
        if frame is not None:
            for decoded in decoder.decode(frame):
                samples = decoded.to_ndarray().reshape(-1, 2)[:, 0]
                out.append((arrival.at, frame.timestamp // TICKS, samples))
    return out


def hear_aiortc(speech: Speech, arrivals: Sequence[Arrival], red: bool) -> AudioReceived:
    """Put aiortc's frames where their timestamps say."""
    came = first_arrivals(arrivals)
    sound = np.zeros((len(speech.samples) + RATE) * 3, np.int16)
    delays, got = [], 0
    for at, number, samples in aiortc_frames(arrivals, red):
        sound[number * TICKS : number * TICKS + len(samples)] = samples
        delays.append(at - came[number])
        got += len(samples)
    made_up = max(0.0, 1 - got / (3 * len(speech.samples)))
    return AudioReceived(resample(sound, 48_000, RATE), delays, made_up)


def hear_aiortc_played(speech: Speech, arrivals: Sequence[Arrival], red: bool) -> AudioReceived:
    """Take one of aiortc's frames every 20 ms, silence when its queue is empty."""
    frames = aiortc_frames(arrivals, red)
    if not frames:
        return AudioReceived(np.zeros(len(speech.samples) + RATE, np.int16), [], 1.0)
    came = first_arrivals(arrivals)
    start = now = frames[0][0] + TICK_PHASE
    parts: list[Samples] = []
    played: list[tuple[int, float]] = []
    waiting = list(reversed(frames))
    empty = 0
    while waiting:
        if waiting[-1][0] <= now:
            _, number, samples = waiting.pop()
            played.append((number, now))
            parts.append(samples)
        else:
            parts.append(np.zeros(TICKS, np.int16))
            empty += 1
        now += FRAME
    return AudioReceived(
        resample(np.concatenate(parts), 48_000, RATE),
        [at - came[number] for number, at in played],
        empty / len(parts),
        {number: round((at - start) * RATE) for number, at in played},
    )


OURS: dict[str, Receiver] = {"arrival": hear_on_arrival, "clock": hear_on_the_clock}
THEIRS: dict[str, Receiver] = {"aiortc": hear_aiortc, "aiortc, played": hear_aiortc_played}


def model(loss: float, bursty: bool, jitter: float) -> NetworkModel:
    """A network with `loss`, at random or in bursts, and up to `jitter` seconds of extra delay, in order."""
    return NetworkModel(
        loss=0.0 if bursty else loss,
        burst=GilbertElliott.from_mean(loss, BURST) if bursty and loss else None,
        delay=PATH_DELAY,
        jitter=Jitter(jitter) if jitter else None,
    )


def row(name: str, heard: AudioReceived, judge: Judge) -> list[Cell]:
    """One line of a table."""
    percentiles = quantiles(heard.delays, n=100) if len(heard.delays) > 1 else []
    p50, p95, p99 = (
        (1000 * round(percentiles[at], 6) for at in (49, 94, 98)) if percentiles else (None, None, None)
    )
    score, mos = judge.score(heard)
    cells: list[Cell] = [name, p50, p95, p99, 100 * heard.made_up, score]
    return [*cells, mos] if judge.has_plcmos else cells


def scenarios(scale: float) -> Iterator[tuple[float, bool, float]]:
    """All of them at scale 1 and above; the corners below."""
    for loss, bursty in LOSSES:
        for jitter in JITTERS:
            if scale >= 1 or (loss in (0.0, 0.1) and jitter in (0.0, 0.06)):
                yield loss, bursty, jitter


def run(options: Options) -> list[Table]:
    """Return one table for each scenario, and the curve; of a trace alone where there is one."""
    if options.trace is not None:
        trace = SentTrace.load(Path(options.trace))
        speech = Speech(repeat=max(1, min(ceil(trace.seconds / ONCE), MOST_ONCES)))
        arrivals = follow(speech.encode(fec=False), trace)
        name = Path(options.trace).name
        return [stall_table(name, speech, arrivals, Judge(speech)), curve(name, speech, arrivals)]
    speech = Speech(repeat=max(1, round(options.scale)))
    judge = Judge(speech)
    plain, with_fec = speech.encode(fec=False), speech.encode(fec=True)
    columns = ["receiver", *FIGURES, *(["PLCMOS"] if judge.has_plcmos else [])]
    tables = []
    for loss, bursty, jitter in scenarios(options.scale):
        kind = f"{loss:.0%} {'bursty' if bursty else 'random'} loss" if loss else "no loss"
        title = f"{kind}, {1000 * jitter:.0f} ms jitter"
        say(title)
        network = model(loss, bursty, jitter)
        ways: list[tuple[str, list[bytes], bool]] = [("", with_fec if loss else plain, False)]
        if loss:
            ways.append((" + red", plain, True))
        rows = []
        for suffix, payloads, red in ways:
            arrivals = send(payloads, network, options.seed, red=red)
            receivers = OURS if red else {**OURS, **THEIRS}
            rows += [row(name + suffix, hear(speech, arrivals, red), judge) for name, hear in receivers.items()]
        tables.append(Table(title, columns, rows))
    return [*tables, *stalls(options)]


def stalls(options: Options) -> list[Table]:
    """Return a table for each network that stalls, and the curve of the one in the middle."""
    speech = Speech(repeat=max(1, round(2 * options.scale)))
    judge, payloads = Judge(speech), speech.encode(fec=False)
    tables = []
    for name in MODELS:
        say(name)
        arrivals = send(payloads, stalling(name), options.seed, red=False)
        tables.append(stall_table(name, speech, arrivals, judge))
    name = list(MODELS)[len(MODELS) // 2]
    arrivals = send(payloads, stalling(name), options.seed, red=False)
    return [*tables, curve(name, speech, arrivals)]


def follow(payloads: Sequence[bytes], trace: SentTrace) -> list[Arrival]:
    """Send one packet every 20 ms while the trace lasts; return what arrives, in the order of arrival."""
    arrivals = []
    for number, payload in enumerate(payloads):
        at = number * FRAME
        delay = trace.delay(at)
        if at <= trace.seconds and delay is not None:
            arrivals.append(Arrival(at + delay, number, payload))
    return sorted(arrivals, key=lambda arrival: arrival.at)  # together: in the order of sending


def hear_at_cost(cost: PlayoutCost) -> Receiver:
    """Return the `clock` for a listener with this cost, decoding at the rate that aiortc has."""
    return lambda speech, arrivals, red: hear_on_the_clock(speech, arrivals, red, cost, AIORTC_RATE)


def stall_table(title: str, speech: Speech, arrivals: Sequence[Arrival], judge: Judge) -> Table:
    """Return what was heard over a network that stalls."""
    receivers = {f"clock, {name}": hear_at_cost(cost) for name, cost in PLAYOUT_COSTS.items()}
    receivers["aiortc, played"] = hear_aiortc_played
    receivers |= {f"fixed {1000 * delay:.0f} ms": hear_fixed(delay, AIORTC_RATE) for delay in (0.1, 0.2, 0.4)}
    rows = []
    for name, hear in receivers.items():
        heard = hear(speech, arrivals, False)
        first, *rest = row(name, heard, judge)
        rows.append([first, 1000 * fmean(heard.delays), 100 * heard.stretched, *rest])
    columns = ["receiver", "mean ms", "stretched %", *FIGURES, *(["PLCMOS"] if judge.has_plcmos else [])]
    return Table(title, columns, rows)


def curve(title: str, speech: Speech, arrivals: Sequence[Arrival]) -> Table:
    """Return made-up sound against delay: at fixed delays, at costs of delay, and aiortc's one point."""
    ways: list[tuple[str, str, Receiver]] = [
        (f"{1000 * delay:.0f} ms", "fixed", hear_fixed(delay))
        for delay in (0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
    ]
    for price in (0.01, 0.03, 0.06, 0.12, 0.25, 0.5):
        cost = replace(CONVERSATION, delay_per_percent=price)
        hear = partial(hear_on_the_clock, cost=cost)
        ways.append((f"1 % is worth {1000 * price:.0f} ms", "clock", hear))
    ways += [
        (name, f"clock, {name}", partial(hear_on_the_clock, cost=cost)) for name, cost in PLAYOUT_COSTS.items()
    ]
    ways.append(("", "aiortc, played", hear_aiortc_played))
    rows = []
    for setting, who, hear in ways:
        heard = hear(speech, arrivals, False)
        rows.append([who, setting, 1000 * fmean(heard.delays), 100 * heard.made_up])
    columns = ["who", "setting", "mean delay ms", "made up %"]
    return Table(
        f"Delay against made-up sound: {title}", columns, rows, chart=Curves("mean delay ms", "made up %")
    )
