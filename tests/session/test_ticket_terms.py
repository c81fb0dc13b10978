"""Which agreements a ticket holds, and that the session made from one is the one that was agreed on."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from stack.core.errors import ParseError
from stack.dtls import Certificate
from stack.sdp import (
    DataParameters,
    LocalParameters,
    Negotiation,
    SessionDescription,
    Setup,
    accept_answer,
    create_offer,
    negotiate,
    renegotiate,
    restarts_ice,
)
from stack.session import LocalWishes, SessionParameters, make_local_parameters
from stack.session.ticket_keys import OpenedTicket, TicketKey, TicketRing
from stack.session.ticket_terms import TicketSite, TicketWishes, local_parameters_of, make_ticket, parameters_of
from tests.sim.calls import CallPair, Sides, is_up
from tests.sim.certificates import EPOCH
from tests.sim.entropy import entropy
from tests.sim.pair import LEFT, RIGHT

OFFERS = Path(__file__).parent.parent / "vectors/offers"
HELD = [
    "chromium156-audio",
    "chromium156-audio_dc",
    "chromium156-dc",
    "chromium156-veth-mdns-dc",
    "firefox153-audio",
    "firefox153-audio_dc",
    "firefox153-dc",
    "firefox153-veth-ff_obf_on_dc",
]
SITE = TicketSite([RIGHT])
KEY = TicketKey(1, hashlib.sha256(b"terms").digest(), Certificate.generate(entropy("terms"), EPOCH))
RING = TicketRing.of([KEY])
WISHES = TicketWishes(2_000_000_000, b"12345678")
CHROMIUM_INIT = "AQAAHqXTF4MAUAAA/////7WEcU/AAAAEgAgABoLA"


def draft(**wishes: object) -> LocalParameters:
    return make_local_parameters(
        entropy("draft"),
        KEY.certificate,
        SITE.addresses,
        LocalWishes(ice_lite=True, **wishes),  # type: ignore[arg-type]
    )


def offered(name: str) -> SessionDescription:
    return SessionDescription.parse((OFFERS / f"{name}.sdp").read_text())


def answered(
    offer: SessionDescription, wishes: TicketWishes = WISHES, **local: object
) -> tuple[OpenedTicket, Negotiation, LocalParameters]:
    """Answer with a ticket; return it as opened, and what was agreed on."""
    ticket = make_ticket(negotiate(offer, draft(**local)), SITE, wishes)
    assert ticket is not None
    opened = RING.open(KEY.seal(ticket, 5))
    ours = local_parameters_of(opened, SITE)
    return opened, negotiate(offer, ours), ours


@pytest.mark.parametrize("name", HELD)
def test_what_is_made_again_is_what_was_agreed_on(name: str) -> None:
    opened, agreed, ours = answered(offered(name))
    made = parameters_of(opened, SITE, agreed.remote_ice_ufrag)
    assert made.local == ours
    assert make_ticket(agreed, SITE, WISHES) == opened.ticket  # by the answer as it was sent
    theirs = made.negotiation
    assert theirs.remote_ice_ufrag == agreed.remote_ice_ufrag
    assert theirs.remote_fingerprints == agreed.remote_fingerprints
    assert theirs.dtls_role is agreed.dtls_role
    for kept, section in zip(theirs.media, agreed.media, strict=True):
        for field in kept.__struct_fields__:
            if field not in ("remote_parameters", "remote_ssrc", "remote_cname", "remote_msid"):
                assert getattr(kept, field) == getattr(section, field), field


@pytest.mark.parametrize("name", HELD)
def test_how_many_characters(name: str) -> None:
    opened, _, _ = answered(offered(name))
    assert len(opened.ufrag) <= (98 if "audio" in name else 90)


@pytest.mark.parametrize("name", ["chromium156-av_dc", "firefox153-av_dc", "gstreamer122-av_dc"])
def test_a_section_that_was_declined_needs_a_session_in_memory(name: str) -> None:
    assert make_ticket(negotiate(offered(name), draft()), SITE, WISHES) is None


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("useinbandfec=1", "useinbandfec=1;maxaveragebitrate=20000"),
        ("useinbandfec=1", "useinbandfec=1;maxplaybackrate=44100"),
        ("a=mid:1", "a=mid:data"),
        ("a=mid:1", "a=mid:16"),
        ("a=sctp-port:5000", "a=sctp-port:5001"),
        ("a=max-message-size:262144", "a=max-message-size:99999"),
        ("a=rtcp-mux\n", "a=rtcp-mux\na=maxptime:60\r\n"),
        ("a=rtcp-mux\n", "a=rtcp-mux\na=ptime:25\r\n"),
    ],
)
def test_what_a_ticket_has_no_room_for(line: str, other: str) -> None:
    text = (OFFERS / "chromium156-audio_dc.sdp").read_text()
    assert line in text
    text = text.replace(line, other)
    if line == "a=mid:1":
        text = text.replace("BUNDLE 0 1", f"BUNDLE 0 {other[6:]}")
    agreed = negotiate(SessionDescription.parse(text), draft())
    assert len(agreed.media) == 2
    assert make_ticket(agreed, SITE, WISHES) is None


@pytest.mark.parametrize(
    ("line", "other", "name", "value"),
    [
        ("a=rtcp-mux\n", "a=rtcp-mux\na=ptime:40\r\n", "ptime", 40),
        ("a=sendrecv", "a=recvonly", "direction", None),
        (
            "useinbandfec=1",
            "stereo=1;usedtx=1;cbr=1",
            "remote_parameters",
            {"stereo": "1", "usedtx": "1", "cbr": "1"},
        ),
    ],
)
def test_what_it_has_room_for(line: str, other: str, name: str, value: object) -> None:
    text = (OFFERS / "chromium156-audio_dc.sdp").read_text().replace(line, other)
    opened, agreed, _ = answered(SessionDescription.parse(text))
    kept, section = parameters_of(opened, SITE, "abcd").negotiation.audio, agreed.audio
    assert kept is not None
    assert section is not None
    assert getattr(kept, name) == (getattr(section, name) if value is None else value)


def test_an_init_chunk_of_a_known_peer_is_held_to_the_byte() -> None:
    text = (OFFERS / "chromium156-audio_dc.sdp").read_text()
    text = text.replace("a=sctp-port:5000", f"a=sctp-port:5000\r\na=sctp-init:{CHROMIUM_INIT}")
    opened, agreed, ours = answered(SessionDescription.parse(text))
    data, known = parameters_of(opened, SITE, "abcd").negotiation.data, agreed.data
    assert data is not None
    assert known is not None
    assert data.remote_sctp_init == known.remote_sctp_init is not None
    assert ours.data is not None
    assert ours.data.sctp_init is not None
    assert len(opened.ufrag) <= 124
    strange = text.replace("a=sctp-init:AQAAHqXTF4MAUA", "a=sctp-init:AQAAHqXTF4MAUQ")
    assert make_ticket(negotiate(SessionDescription.parse(strange), draft()), SITE, WISHES) is None


def test_a_ticket_made_ahead_holds_no_init_chunk() -> None:
    text = (OFFERS / "chromium156-audio_dc.sdp").read_text()
    text = text.replace("a=sctp-port:5000", f"a=sctp-port:5000\r\na=sctp-init:{CHROMIUM_INIT}")
    agreed = negotiate(SessionDescription.parse(text), draft())
    ticket = make_ticket(agreed, SITE, replace(WISHES, is_instant=True))
    assert ticket is not None
    assert ticket.is_instant
    made = parameters_of(RING.open(KEY.seal(ticket, 0)), SITE, "abcd").negotiation.data
    assert made == DataParameters("1", 5000, 262144)


def test_what_the_program_is_told_is_sealed_in() -> None:
    wishes = replace(WISHES, program=3, tenant=1 << 30, claim="alice@example.ne")
    opened, _, _ = answered(offered("chromium156-audio_dc"), wishes)
    ticket = opened.ticket
    assert (ticket.program, ticket.tenant, ticket.claim) == (3, 1 << 30, "alice@example.ne")
    assert (
        make_ticket(negotiate(offered("firefox153-dc"), draft()), SITE, replace(WISHES, claim="x" * 101)) is None
    )


def test_another_fragment_has_other_secrets() -> None:
    one, _, ours = answered(offered("chromium156-audio_dc"))
    other, _, theirs = answered(offered("chromium156-audio_dc"), replace(WISHES, reference=b"87654321"))
    assert one.ufrag != other.ufrag
    assert ours.ice_pwd != theirs.ice_pwd
    assert ours.audio is not None
    assert theirs.audio is not None
    assert ours.audio.ssrc != theirs.audio.ssrc
    assert ours.audio.cname != theirs.audio.cname


def sides(setup: Setup = Setup.PASSIVE) -> Sides:
    """A client with an answer that has a ticket, and a server that knows nothing but the ticket."""
    mine = entropy("client")
    certificate = Certificate.generate(mine, EPOCH)
    client = make_local_parameters(mine, certificate, [LEFT])
    offer = create_offer(client)
    opened, agreed, _ = answered(SessionDescription.parse(offer.serialize()), setup=setup)
    answer = SessionDescription.parse(agreed.answer.serialize())
    made = parameters_of(RING.open(opened.ufrag), SITE, client.ice_ufrag)
    return Sides(
        SessionParameters(client, accept_answer(offer, answer, client)), made, certificate, KEY.certificate
    )


@pytest.mark.parametrize("setup", [Setup.PASSIVE, Setup.ACTIVE])
def test_a_call_with_a_server_that_knows_the_ticket_alone(setup: Setup) -> None:
    pair = CallPair(sides(setup))
    pair.run(5.0)
    assert all(is_up(host) for host in pair.hosts)
    agreed = pair.right.machine.session.parameters.negotiation
    assert agreed.data is not None
    assert agreed.data.remote_sctp_init is not None  # the association needed no handshake


def test_a_client_with_another_certificate_is_refused_in_the_handshake() -> None:
    ours = sides()
    other = Certificate.generate(entropy("other"), EPOCH)
    pair = CallPair(replace(ours, client_certificate=other))
    pair.run(5.0)
    assert not any(is_up(host) for host in (pair.right,))
    counted = pair.right.machine.all_counters().snapshot()
    assert any("fingerprint_mismatch" in name for name in counted), counted


def test_a_further_offer_is_held_against_the_outline() -> None:
    offer = offered("chromium156-audio_dc")
    opened, first, ours = answered(offer)
    former = parameters_of(opened, SITE, first.remote_ice_ufrag).negotiation
    again = renegotiate(offer, former, replace(ours, session_version=2))
    assert again.audio is not None
    assert not restarts_ice(again, former)
    assert restarts_ice(replace(again, remote_ice_ufrag="other"), former)


def test_a_ticket_of_numbers_that_are_not_known_here_makes_no_session() -> None:
    opened, _, _ = answered(offered("chromium156-audio_dc"))
    audio = opened.ticket.audio
    assert audio is not None
    strange = replace(opened, ticket=replace(opened.ticket, audio=replace(audio, codec=3)))
    with pytest.raises(ParseError, match="not known here"):
        parameters_of(strange, SITE, "abcd")
    with pytest.raises(ParseError):
        RING.open(opened.ufrag.replace("5+", "6+", 1))
