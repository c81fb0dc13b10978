"""Sound through bad networks: both jitter buffers and aiortc's receive path, fed the very same packets.

Recorded speech (Debian's pocketsphinx-testdata) is encoded by our Opus encoder at 24 kb/s, sent every 20 ms
through `interop.network_model` in virtual time, and received four ways:

- arrival: `ArrivalReceiver`, the frames put in their places on the sender's timeline;
- clock: `ClockReceiver`, 20 ms pulled every 20 ms, as it would be played;
- aiortc: its JitterBuffer(16, prefetch 4) and its decoder, the frames put in their places by their timestamps,
  which is the kindest way to hear them;
- aiortc, played: the same frames taken from its queue every 20 ms, silence when there is none: what a person
  hears when they are played.

"red" rows carry redundancy (RFC 2198) as our sender would: its depth follows the loss reported each second.
aiortc cannot receive it and gets the same packets without. Delay is what the receiver adds: from a packet's own
arrival to when its sound is handed out (played: to when it is played). "made up" is the share of the sound that
is not from packets (silence, for aiortc). PESQ is wideband, against the original, the mean over the sentences;
PLCMOS (if `speechmos` is installed) needs no reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, quantiles
from typing import Any, NamedTuple

import numpy as np

from bench.report import Cell, Options, Table
from interop.network_model import GilbertElliott, Jitter, Link, NetworkModel
from stack.audio import (
    ArrivalReceiver,
    ClockReceiver,
    EncoderTuner,
    OpusDecoder,
    OpusEncoder,
    Samples,
    read_wav,
    resample,
)
from stack.core.errors import LocalError
from stack.rtp import ArrivalBuffer, ClockBuffer, Decode
from stack.rtp.red import RedDepth, RedEncoder, RedPayload

SPEECH = Path("/usr/share/pocketsphinx/test/data/librivox")
RATE = 16_000
FRAME = 0.020
TICKS = 960
PAUSE = 0.5
LEAD_IN = 1.5
"""Seconds from the first packet to the first word: a microphone is open before the person speaks."""
PAYLOAD_TYPE = 111
PATH_DELAY = 0.030
TICK_PHASE = 0.007
"""How long after the first packet the player's first tick comes: its clock knows nothing of the sender's."""

LOSSES = ((0.0, False), (0.02, False), (0.05, False), (0.1, False), (0.2, False), (0.02, True), (0.05, True))
LOSSES += ((0.1, True), (0.2, True))
JITTERS = (0.0, 0.02, 0.06, 0.12)
BURST = 3.0


class Arrival(NamedTuple):
    """A packet at the receiver: as it was sent, its number, and when it came."""

    at: float
    number: int
    payload: bytes


@dataclass
class AudioReceived:
    """What came out of a receiver."""

    sound: Samples
    """At `RATE`, beginning with the sender's first sample, more or less."""
    delays: list[float] = field(default_factory=list)
    made_up: float = 0.0


class Speech:
    """The sentences, one after the other with pauses, and where each lies."""

    def __init__(self, repeat: int = 1) -> None:
        files = sorted(SPEECH.glob("*.wav"))
        if not files:
            raise LocalError("no recorded speech: apt-get install pocketsphinx-testdata")
        pieces: list[Samples] = [np.zeros(int(LEAD_IN * RATE), np.int16)]
        self.sentences: list[tuple[int, int]] = []
        at = int(LEAD_IN * RATE)
        for path in files * repeat:
            samples, rate = read_wav(path)
            assert rate == RATE
            self.sentences.append((at, at + len(samples)))
            pieces += [samples, np.zeros(int(PAUSE * RATE), np.int16)]
            at += len(samples) + int(PAUSE * RATE)
        whole = np.concatenate(pieces)
        self.samples: Samples = whole[: len(whole) // 320 * 320]

    def encode(self, *, fec: bool) -> list[bytes]:
        """Return the payloads of 20 ms each."""
        encoder = OpusEncoder(48_000)
        if fec:
            EncoderTuner(encoder).update(0.1, 0.0)
        pcm = resample(self.samples, RATE, 48_000)
        return [encoder.encode(pcm[at : at + TICKS]) for at in range(0, len(pcm) - TICKS + 1, TICKS)]


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


class WatchedBuffer(ClockBuffer):
    """Notes when each packet is played."""

    def __init__(self) -> None:
        super().__init__()
        self.played: list[tuple[int, float]] = []

    def pull(self, now: float, backlog: float = 0.0) -> list[Any]:
        items = super().pull(now, backlog)
        at = now + backlog
        for item in items:
            if isinstance(item, Decode):
                self.played.append((item.packet.sequence, at))
            at += item.duration / 48_000
        return items


def hear_on_the_clock(speech: Speech, arrivals: Sequence[Arrival], red: bool) -> AudioReceived:
    """Receive with the `clock` buffer, as played."""
    buffer = WatchedBuffer()
    receiver = ClockReceiver(OpusDecoder(RATE), buffer)
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
    behind = fmean(at - number * FRAME for number, at in buffer.played)
    statistics = receiver.statistics
    return AudioReceived(
        shifted(np.concatenate(parts), start, behind),
        [at - came[number] for number, at in buffer.played if number in came],
        statistics.concealed_samples / max(1, statistics.total_samples_received),
    )


def shifted(sound: Samples, start: float, behind: float) -> Samples:
    """Move what was played from `start` on to where the sender said it, with 50 ms to spare for PESQ to align."""
    lead = round((start - behind + 0.05) * RATE)
    silence = np.zeros(RATE, np.int16)
    return np.concatenate((np.zeros(max(0, lead), np.int16), sound[max(0, -lead) :], silence))


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
    behind = fmean(at - number * FRAME for number, at in played)
    return AudioReceived(
        shifted(resample(np.concatenate(parts), 48_000, RATE), start, behind),
        [at - came[number] for number, at in played],
        empty / len(parts),
    )


class Judge:
    """Scores what was heard."""

    def __init__(self, speech: Speech) -> None:
        self._speech = speech
        self._plcmos: Any = None
        try:
            from speechmos import plcmos

            np.random.seed(0)  # it draws its raters from numpy's global generator
            self._plcmos = plcmos.PLCMOS(embed_rounds=3)
        except ImportError:
            pass

    @property
    def has_plcmos(self) -> bool:
        """Whether `speechmos` is there."""
        return self._plcmos is not None

    def score(self, sound: Samples) -> tuple[float | None, float | None]:
        """Return the mean PESQ and PLCMOS of the sentences."""
        from pesq import NoUtterancesError, pesq

        pesqs, mos = [], []
        for begin, end in self._speech.sentences:
            piece = sound[begin : end + RATE // 4]
            if len(piece) < RATE:
                continue
            try:
                pesqs.append(pesq(RATE, self._speech.samples[begin:end], piece, "wb"))
            except NoUtterancesError:
                pesqs.append(1.0)
            if self._plcmos is not None:
                mos.append(float(self._plcmos.get_mos(piece.astype(np.float32) / 32768)))
        return (fmean(pesqs) if pesqs else None), (fmean(mos) if mos else None)


Receiver = Callable[[Speech, Sequence[Arrival], bool], AudioReceived]
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
    score, mos = judge.score(heard.sound)
    cells: list[Cell] = [name, p50, p95, p99, 100 * heard.made_up, score]
    return [*cells, mos] if judge.has_plcmos else cells


def scenarios(scale: float) -> Iterator[tuple[float, bool, float]]:
    """All of them at scale 1 and above; the corners below."""
    for loss, bursty in LOSSES:
        for jitter in JITTERS:
            if scale >= 1 or (loss in (0.0, 0.1) and jitter in (0.0, 0.06)):
                yield loss, bursty, jitter


def run(options: Options) -> list[Table]:
    """Return one table for each scenario."""
    speech = Speech(repeat=max(1, round(options.scale)))
    judge = Judge(speech)
    plain, with_fec = speech.encode(fec=False), speech.encode(fec=True)
    columns = [
        "receiver",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "made up %",
        "PESQ",
        *(["PLCMOS"] if judge.has_plcmos else []),
    ]
    tables = []
    for loss, bursty, jitter in scenarios(options.scale):
        network = model(loss, bursty, jitter)
        ways: list[tuple[str, list[bytes], bool]] = [("", with_fec if loss else plain, False)]
        if loss:
            ways.append((" + red", plain, True))
        rows = []
        for suffix, payloads, red in ways:
            arrivals = send(payloads, network, options.seed, red=red)
            receivers = OURS if red else {**OURS, **THEIRS}
            rows += [row(name + suffix, hear(speech, arrivals, red), judge) for name, hear in receivers.items()]
        kind = f"{loss:.0%} {'bursty' if bursty else 'random'} loss" if loss else "no loss"
        tables.append(Table(f"{kind}, {1000 * jitter:.0f} ms jitter", columns, rows))
    return tables
