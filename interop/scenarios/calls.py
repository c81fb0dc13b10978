"""Sound, and what an offer may bring."""

from __future__ import annotations

from interop.diagnosis.description import sections
from interop.peers.base import Wishes
from interop.redirect import without_candidates
from interop.scenarios.registry import scenario
from interop.trial import Trial
from interop.verdict import Unexpected


@scenario("audio", "RFC 3264 §6.1, RFC 7587, RFC 3711", is_quick=True)
async def audio(trial: Trial) -> None:
    """Both sides hear the other's tone: its frequency, its level, nothing else."""
    await trial.connect()
    await trial.hears("server")
    await trial.hears("client")


@scenario("audio alone", "RFC 8829 §5.3.1, RFC 5764", wishes=Wishes(data=False))
async def audio_alone(trial: Trial) -> None:
    """A call without a data section."""
    await trial.connect()
    await trial.hears("server")
    await trial.hears("client")


@scenario("PCMU", "RFC 7874 §3, RFC 3551 §4.5.14", wishes=Wishes(codec="PCMU"), is_quick=True)
async def pcmu(trial: Trial) -> None:
    """The client offers G.711 μ-law alone."""
    await trial.connect()
    await trial.hears("server")
    await trial.hears("client")


@scenario("PCMA", "RFC 7874 §3, RFC 3551 §4.5.14", wishes=Wishes(codec="PCMA"))
async def pcma(trial: Trial) -> None:
    """The client offers G.711 A-law alone."""
    await trial.connect()
    await trial.hears("server")
    await trial.hears("client")


@scenario("declined video", "RFC 3264 §6, RFC 8843 §7.3.2", wishes=Wishes(video=True))
async def declined_video(trial: Trial) -> None:
    """The client offers video, too; whatever becomes of it, sound and data live."""
    await trial.connect()
    taken = {section.kind: not section.is_declined for section in sections(trial.evidence.answer)}
    if trial.evidence.server == "ours" and taken.get("video"):
        raise Unexpected(
            "video to be declined by a server that has none", "RFC 3264 §6", "a section that is taken"
        )
    offered = {section.kind for section in sections(trial.evidence.offer)}
    for kind in offered & {"audio", "application"}:
        if not taken.get(kind):
            raise Unexpected(f"the section {kind} to be taken beside video", "RFC 3264 §6", "a declined one")
    await trial.hears("server")
    await trial.hears("client")
    await trial.also_messages(("hello",))


@scenario("no candidates", "RFC 8445 §7.3.1.3, RFC 9725 §4.3.1", is_quick=True)
async def no_candidates(trial: Trial) -> None:
    """The offer has no candidates and none follow: the server learns the address from the first check."""
    trial.rewrite_offer = without_candidates
    await trial.connect()
    await trial.hears("client")


def only_mdns(offer: str) -> str:
    """Hide the addresses of an offer behind a name that cannot be resolved here (draft-ietf-mmusic-mdns-ice)."""
    hidden = "a94f2c1e-0d7b-4a52-9c5e-3f1d8b6a7c20.local"
    lines = []
    for line in offer.splitlines():
        if line.startswith("a=candidate:"):
            fields = line.split(" ")
            fields[4] = hidden
            line = " ".join(fields)
        elif line.startswith("c="):
            line = "c=IN IP4 0.0.0.0"
        lines.append(line)
    return "\r\n".join(lines) + "\r\n"


@scenario("mDNS", "RFC 8828 §6.2, draft-ietf-mmusic-mdns-ice-candidates §3.1.2")
async def mdns(trial: Trial) -> None:
    """The offer has only .local candidates, which the server cannot resolve."""
    trial.rewrite_offer = only_mdns
    await trial.connect()
    await trial.hears("client")


@scenario("reports", "RFC 3550 §6.2, RFC 8834 §4.1, RFC 7675 §5.1", seconds=13)
async def reports(trial: Trial) -> None:
    """Over some seconds both sides send RTCP, answer consent checks, and keep the clock of their timestamps."""
    await trial.connect()
    await trial.hears("client")
    await trial.stay(13)
    await trial.hears("server")


@scenario("45 seconds", "RFC 7675 §5.1", seconds=48, is_long=True)
async def life(trial: Trial) -> None:
    """The call outlives the 30 s after which consent expires, and sounds as at the beginning."""
    await trial.connect()
    await trial.stay(45)
    await trial.hears("server")
    await trial.hears("client")
    await trial.also_messages(("still here",))
