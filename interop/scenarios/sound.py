"""How sound is sent: silence, packet lengths, channels, redundancy, telephone keys, speech."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import pairwise

import numpy as np

from interop.diagnosis.description import sections
from interop.evidence import SIDES, Packet, Side, other
from interop.network_model import NetworkModel
from interop.peers.base import AbsentError, UnsupportedError, Wishes
from interop.rewriting import payload_types, red_first, with_opus_parameters, with_ptime
from interop.scenarios.registry import scenario, unless_it_has_data
from interop.speech import RATE, recorded_speech, why_quality_is_not_measured, wideband_pesq
from interop.trial import Rewrite, Trial
from interop.verdict import Layer, Unexpected
from interop.wire_reading import Kind

LEAST_PESQ = 2.5
"""Of 4.64. Two ends of ours have 4.3; a page's recorder encodes once more what its jitter buffer stretched."""
SPEECH_SECONDS = 16.0
"""Twice the recording, so that the whole of it is in there."""


def changed_both_ways(trial: Trial, change: Rewrite) -> None:
    """Change the offer and the answer on their way: each side then finds it in the other's description."""
    trial.rewrite_offer = trial.rewrite_answer = change


async def both_hear(trial: Trial, purity: float = 0.9, decibels: float = 1.0) -> None:
    """Both sides hear the other's tone."""
    for side in SIDES:
        await trial.hears(side, purity=purity, decibels=decibels)


async def each_falls_silent_and_returns(trial: Trial, **returns: float) -> None:
    """Each side that can be muted is, one after the other, if the other side hears it.

    `returns` is how its tone sounds afterwards.
    """
    able = 0
    for side in SIDES:
        if not trial.traits[other(side)].hears:
            continue
        try:
            await trial.ends[side].mute(False)
        except UnsupportedError:
            continue
        able += 1
        await falls_silent_and_returns(trial, side, **returns)
    if not able:
        raise UnsupportedError("neither side can be muted and heard by the other")


async def falls_silent_and_returns(
    trial: Trial, side: Side, *, settle: float = 0.8, purity: float = 0.9, decibels: float = 1.0
) -> None:
    """A side is muted and unmuted: the other hears nothing meanwhile, and the tone afterwards."""
    await trial.mute(side, True)
    began = trial.tap.now()
    await trial.silent(other(side))
    await trial.stay(1.0)
    sent, seconds = len(trial.sent_since(began, side, Kind.RTP)), trial.tap.now() - began
    trial.evidence.facts[f"the {side} in silence"] = f"{sent / seconds:.0f} packets a second"
    await trial.mute(side, False, settle)
    await trial.hears(other(side), purity=purity, decibels=decibels)


@scenario("mute", "RFC 8834 §3, RFC 3550 §5.1", seconds=15)
async def mute(trial: Trial) -> None:
    """Each side in turn says nothing for two seconds: the call stands, and its sound comes back unharmed."""
    await trial.connect()
    await both_hear(trial)
    await each_falls_silent_and_returns(trial)


@scenario("DTX", "RFC 7587 §3.1.3, §6.1", seconds=15)
async def dtx(trial: Trial) -> None:
    """Both descriptions ask for discontinuous transmission (usedtx=1): silence is silent, sound comes back."""
    changed_both_ways(trial, with_opus_parameters(usedtx=1))
    await trial.connect()
    # Opus takes a tone for silence, too, when it has lasted for a second: only its beginning can be judged.
    await each_falls_silent_and_returns(trial, settle=0.0, purity=0.5, decibels=6.0)


@scenario("stereo", "RFC 7587 §6.1, §7")
async def stereo(trial: Trial) -> None:
    """Both descriptions ask for stereo: a tone in both channels stays that tone, at its level."""
    changed_both_ways(trial, with_opus_parameters(stereo=1, **{"sprop-stereo": 1}))
    await trial.connect()
    await both_hear(trial)


def packet_length(packets: list[Packet]) -> int:
    """Milliseconds of sound in most packets, by their timestamps at the 48 kHz of Opus (RFC 7587 §4.1)."""
    steps = Counter(
        (after.rtp.timestamp - before.rtp.timestamp) % (1 << 32)
        for before, after in pairwise(packets)
        if before.rtp and after.rtp and after.rtp.sequence == (before.rtp.sequence + 1) % (1 << 16)
    )
    return steps.most_common(1)[0][0] // 48 if steps else 0


def at_ptime(milliseconds: int) -> Callable[[Trial], Awaitable[None]]:
    """A call whose descriptions both ask for packets of this length."""

    async def run(trial: Trial) -> None:
        changed_both_ways(trial, with_ptime(milliseconds))
        await trial.connect()
        await both_hear(trial)
        for side in SIDES:
            sent = packet_length(list(trial.evidence.sent(side, Kind.RTP)))
            trial.evidence.facts[f"packets of the {side}"] = f"{sent} ms"

    run.__doc__ = f"Both descriptions ask for packets of {milliseconds} ms; what is sent, of any length, is heard."
    return run


for _milliseconds in (10, 40, 60):
    scenario(f"ptime {_milliseconds}", "RFC 8866 §6.4, RFC 7587 §6.1", wishes=Wishes(ptime=_milliseconds))(
        at_ptime(_milliseconds)
    )


@scenario("RED", "RFC 2198, RFC 8866 §6.4", seconds=9)
async def red(trial: Trial) -> None:
    """Where both know redundant coding and prefer it, one packet in ten is lost and the tone stays whole."""
    changed_both_ways(trial, red_first)
    await trial.signal()
    for side, sdp in (("client", trial.evidence.offer), ("server", trial.evidence.answer)):
        if not payload_types(sdp, "red/48000"):
            raise UnsupportedError(f"{trial.evidence.name(side)} knows no audio/red")  # type: ignore[arg-type]
    await trial.established()
    trial.tap.change(NetworkModel(loss=0.1))
    await both_hear(trial, purity=0.6, decibels=3)
    numbers = set(payload_types(trial.evidence.answer, "red/48000"))
    for side in SIDES:
        sent = [packet.rtp for packet in trial.evidence.sent(side, Kind.RTP) if packet.rtp]
        redundant = sum(str(rtp.payload_type) in numbers for rtp in sent)
        trial.evidence.facts[f"redundant packets of the {side}"] = f"{redundant} of {len(sent)}"


KEYS = "5#"


@scenario("telephone-event", "RFC 4733 §2.5, RFC 7874 §3", seconds=12)
async def telephone_event(trial: Trial) -> None:
    """Keys that a side presses arrive at the other as keys, and the tone goes on afterwards."""
    await trial.connect()
    taken = [line for line in trial.evidence.answer.splitlines() if "telephone-event/" in line]
    if not taken:
        raise UnsupportedError("they agreed on no telephone-event")
    pressing = 0
    for side in SIDES:
        try:
            began = trial.tap.now()
            await trial.ends[side].press(KEYS)
        except UnsupportedError:
            continue
        pressing += 1
        await keys_arrive(trial, side, began)
        await trial.hears(other(side))
    if not pressing:
        raise UnsupportedError("neither has a way to press a telephone key")


async def keys_arrive(trial: Trial, side: Side, began: float) -> None:
    """What the other side says of the keys; of one that cannot tell, the packets that carry them."""
    expected, section = f"the keys {KEYS} of the {side} at the {other(side)}", "RFC 4733 §2.5"
    description = trial.evidence.answer if side == "client" else trial.evidence.offer
    numbers = {
        *payload_types(description, "telephone-event/48000"),
        *payload_types(description, "telephone-event/8000"),
    }
    told: str | None = ""
    while trial.tap.now() < began + 4 and told is not None:
        told = await trial.ends[other(side)].pressed()
        if told == KEYS:
            return
        await trial.stay(0.1)
    await trial.stay(max(0.0, began + 2 - trial.tap.now()))
    sent = [p for p in trial.sent_since(began, side, Kind.RTP) if p.rtp and str(p.rtp.payload_type) in numbers]
    slow = [
        p for p in sent if p.rtp and str(p.rtp.payload_type) in payload_types(description, "telephone-event/8000")
    ]
    if slow and payload_types(description, "opus/48000"):
        raise Unexpected(
            "telephone events with the timestamps of the sound that they are in, which has a clock of 48000 Hz",
            "RFC 4733 §2.1",
            f"{len(slow)} packets of telephone-event/8000 beside Opus",
            side=side,
            layer=Layer.MEDIA,
            packet=slow[0],
            rule="telephone-event-clock",
        )
    if told is None and sent:
        trial.evidence.facts[f"telephone events of the {side}"] = f"{len(sent)} packets"
        return
    seen = f"{told!r}, and {len(sent)} packets of telephone events" if told is not None else "no packet of one"
    raise Unexpected(expected, section, seen, side=None if sent else side, layer=Layer.MEDIA)


@scenario("speech", "ITU-T P.862.2 (PESQ), RFC 7587", wishes=Wishes(speech=True), seconds=45)
async def speech(trial: Trial) -> None:
    """Recorded speech instead of a tone: what arrives is as good as what was said, by PESQ."""
    why = why_quality_is_not_measured()
    if why is not None:
        raise AbsentError(why)
    await trial.connect()
    scores = {
        side: await score_at(trial, side)
        for side in SIDES
        if trial.traits[side].hears and trial.traits[other(side)].plays_speech
    }
    for side, score in scores.items():
        if score is None:
            continue
        trial.evidence.facts[f"PESQ at the {side}"] = f"{score:.2f} of 4.64"
        if score < LEAST_PESQ:
            expected = f"speech at the {side} with a PESQ of {LEAST_PESQ} or more, the better of two times"
            raise Unexpected(expected, "ITU-T P.862.2", f"{score:.2f}", layer=Layer.SOUND)
    if not any(scores.values()):
        raise UnsupportedError("neither side can be given speech and asked what it heard")


async def score_at(trial: Trial, side: Side) -> float | None:
    """The PESQ of what a side hears, the better of two times; None if it cannot be asked."""
    said, _ = recorded_speech()
    best = 0.0
    for _ in range(2):
        heard = await trial.ends[side].listen(SPEECH_SECONDS)
        if heard is None:
            return None
        samples, rate = heard
        if rate == 3 * RATE:
            whole = np.asarray(samples[: len(samples) // 3 * 3], np.float64)
            samples = whole.reshape(-1, 3).mean(1).astype(np.int16)
        best = max(best, wideband_pesq(said, samples))
        if best >= LEAST_PESQ:
            break
    return best


@scenario("two audio sections", "RFC 3264 §6, RFC 8843 §7.3", wishes=Wishes(audio_sections=2))
async def two_audio_sections(trial: Trial) -> None:
    """The client offers two sections of sound; whatever becomes of the second, the first and the data live."""
    await trial.connect()
    both = [section for section in sections(trial.evidence.answer) if section.kind == "audio"]
    if len(both) != 2:
        raise Unexpected("an answer to each of two audio sections", "RFC 3264 §6", f"{len(both)}", side="server")
    if both[0].is_declined:
        raise Unexpected("the first audio section to be taken", "RFC 3264 §6", "a declined one")
    trial.evidence.facts["the second audio section"] = "declined" if both[1].is_declined else both[1].direction
    await both_hear(trial)
    await trial.also_messages(("hello",))


def under(policy: str) -> Callable[[Trial], Awaitable[None]]:
    """A call that is offered under a bundle policy."""

    async def run(trial: Trial) -> None:
        await trial.connect()
        await both_hear(trial)
        await trial.also_messages(("hello",))

    run.__doc__ = f"The client offers sound and data under the bundle policy {policy}; one transport carries both."
    return run


for _policy in ("max-bundle", "balanced", "max-compat"):
    scenario(
        f"bundle {_policy}",
        "RFC 8829 §4.1.1, RFC 8843 §7",
        wishes=Wishes(bundle=_policy),
        unsupported=unless_it_has_data,  # there is one section then, and nothing to bundle
    )(under(_policy))
