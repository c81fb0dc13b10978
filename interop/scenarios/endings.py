"""How a call ends."""

from __future__ import annotations

from interop.evidence import SIDES, Side
from interop.peers.base import Peer, UnsupportedError, Wishes
from interop.scenarios.registry import Why, scenario
from interop.trial import Trial
from interop.verdict import Layer, Unexpected
from interop.wire_reading import Kind

CONSENT_EXPIRES = 30.0
"""Seconds without an answer after which a side must stop sending (RFC 7675 §5.1)."""
GRACE = 7.0
"""Seconds more that are let pass: who counts six unanswered checks, 4 to 6 s apart, is late by up to six."""


def unless_it_can_be_seen(leaver: Side) -> Why:
    """A stack that closes without a word cannot be asked for one, nor one that shows no end whether it saw it."""

    def why(peer: Peer, side: Side) -> str | None:
        if not peer.traits.can_be_asked:
            return f"{peer.name} cannot be asked whether it noticed, nor told to leave but over HTTP"
        if side == leaver:
            return None if peer.traits.says_goodbye else f"{peer.name} closes its connection without a word"
        return None if peer.traits.notices_the_end else f"a program cannot see in {peer.name} that the other left"

    return why


def by(side: Side) -> str:
    """The scenario's name."""
    return f"hang-up by the {side}"


@scenario(by("client"), "RFC 8446 §6.1, RFC 9260 §9", unsupported=unless_it_can_be_seen("client"))
async def left_by_the_client(trial: Trial) -> None:
    """The client closes its connection, and the server learns of it on the path."""
    await trial.connect()
    await trial.leave("client")


@scenario(by("server"), "RFC 8446 §6.1, RFC 9260 §9", unsupported=unless_it_can_be_seen("server"), is_quick=True)
async def left_by_the_server(trial: Trial) -> None:
    """The server closes its connection, and the client learns of it on the path."""
    await trial.connect()
    await trial.leave("server")


@scenario("hang-up at once", "RFC 7675 §5.1", seconds=40, unsupported=unless_it_can_be_seen("client"))
async def left_before_the_connection(trial: Trial) -> None:
    """The client leaves before anything stands, as soon as it has the answer: no sound is sent to where it was."""
    await trial.signal()
    await trial.client.hang_up()
    left = trial.evidence.hung_up_at = trial.tap.now()
    await trial.pause(1.5)
    while trial.sent_since(trial.tap.now() - 1.5, "server", Kind.RTP):
        if trial.tap.now() > left + CONSENT_EXPIRES + 3:
            expected = "no sound to a client that left, when its consent has expired"
            seen = f"RTP packets {trial.tap.now() - left:.0f} s after the client had left"
            raise Unexpected(expected, "RFC 7675 §5.1", seen, side="server", layer=Layer.END)
        await trial.pause(0.2)
    fallen = max((packet.at for packet in trial.sent_since(left, "server", Kind.RTP)), default=left)
    trial.evidence.facts["the last sound of the server"] = f"{fallen - left:.1f} s after the client had left"


@scenario("hang-up over HTTP", "RFC 9725 §4.2", seconds=10)
async def left_over_http(trial: Trial) -> None:
    """The client ends its session by DELETE: the server says 200, stops sending, and knows the session no more."""
    await trial.connect()
    await trial.hears("client")
    section = "RFC 9725 §4.2"
    asked = trial.evidence.hung_up_at = trial.tap.now()
    status = await trial.server.delete()
    if not 200 <= status < 300:
        raise Unexpected(
            "200 to DELETE of the session", section, f"{status}", side="server", layer=Layer.SIGNALLING
        )
    await trial.pause(3)
    late = trial.sent_since(asked + 2, "server", Kind.RTP)
    if late:
        seen = f"{len(late)} RTP packets, the first {late[0].at - asked:.1f} s after it"
        expected = "no sound when the session has been ended by DELETE"
        raise Unexpected(expected, section, seen, side="server", layer=Layer.END, packet=late[0])
    again = await trial.server.delete()
    if again < 400:
        expected = "an error to DELETE of a session that is over"
        raise Unexpected(expected, section, f"{again}", side="server", layer=Layer.SIGNALLING)


@scenario("gone without a word", "RFC 7675 §5.1", seconds=90, is_long=True)
async def gone(trial: Trial) -> None:
    """Nothing passes any more in mid-call: when consent has expired each side is silent, and knows it in time."""
    if not all(traits.can_be_asked and traits.notices_the_end for traits in trial.traits.values()):
        raise UnsupportedError("an end cannot be asked whether it noticed")
    await trial.connect()
    await trial.hears("client")
    began = trial.tap.now()
    trial.tap.cut(True)
    trial.evidence.hung_up_at = began
    expected = "the {} to find out that the other side is gone"
    for side in SIDES:
        left = CONSENT_EXPIRES + GRACE + 1 + trial.waits(side) - (trial.tap.now() - began)
        await trial.learns_of_the_end(side, max(left, 1.0), expected.format(side), "RFC 7675 §5.1")
    await trial.pause(max(0.0, began + CONSENT_EXPIRES + GRACE + 1 - trial.tap.now()))
    for side in SIDES:
        fallen = max((packet.at for packet in trial.sent_since(began, side, Kind.RTP)), default=began)
        trial.evidence.facts[f"the last sound of the {side}"] = f"{fallen - began:.1f} s after the cut"
        late = trial.sent_since(began + CONSENT_EXPIRES + GRACE, side, Kind.RTP)
        if late:
            expected = "no sound when consent has expired, 30 s after the last answer"
            seen = f"{len(late)} RTP packets, the first {late[0].at - began:.1f} s after it"
            raise Unexpected(expected, "RFC 7675 §5.1", seen, side=side, layer=Layer.END, packet=late[0])


@scenario("reload", "RFC 7675 §5.1, RFC 8446 §6.1", wishes=Wishes(), calls=2, seconds=60)
async def reload(trial: Trial) -> None:
    """The page is loaded again in mid-call and calls anew: the new call lives, the old one ends."""
    (second,) = trial.others
    await trial.connect()
    await trial.hears("server")
    await trial.client.reload()
    trial.evidence.hung_up_at = trial.tap.now()
    await second.connect()
    await second.hears("server")
    await second.hears("client")
    expected = "the server to find out that the page of the first call is gone"
    patience = CONSENT_EXPIRES + GRACE + 1 + trial.waits("server")
    await trial.learns_of_the_end("server", patience, expected, "RFC 7675 §5.1")
    learnt = trial.tap.now() - trial.evidence.hung_up_at
    trial.evidence.facts["the server learnt of the reload"] = f"{learnt:.1f} s after it"
    await second.hears("client")
