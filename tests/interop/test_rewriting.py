"""What a scenario changes in a description, and what a target's fragments are: texts in, texts out."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest

from interop.diagnosis.description import sections
from interop.peers.target import changed_by, fragment_of
from interop.rewriting import (
    bundle_only,
    candidate_lines,
    first_value,
    max_message_size,
    only_codec,
    payload_types,
    red_first,
    with_opus_parameters,
    with_ptime,
    with_section,
    without_last_section,
)
from interop.tap import machine_address, udp_candidate
from stack.core.machine import Address
from stack.dtls import Certificate
from stack.sdp import SessionDescription, create_offer
from stack.session.parameters import LocalWishes, make_local_parameters
from stack.voice.config import offered_codecs


@pytest.fixture(scope="module")
def offer() -> str:
    """Sound and data, as our client offers them, with a candidate over each version of IP."""
    certificate = Certificate.generate(os.urandom, datetime.now(UTC))
    addresses = [Address("fd00::7", 4000), Address("192.0.2.7", 4001)]
    local = make_local_parameters(os.urandom, certificate, addresses, LocalWishes(codecs=offered_codecs()))
    return create_offer(local, audio=True, data=True).serialize()


def audio_lines(sdp: str) -> list[str]:
    (audio, *_) = [section for section in sections(sdp) if section.kind == "audio"]
    return audio.lines


def test_parameters_of_opus_are_added_and_replaced(offer: str) -> None:
    changed = with_opus_parameters(stereo=1, useinbandfec=0)(offer)
    (number,) = payload_types(changed, "opus/48000")
    (line,) = [line for line in changed.splitlines() if line.startswith(f"a=fmtp:{number} ")]
    assert {"stereo=1", "useinbandfec=0", "minptime=10"} == set(line.split(" ")[1].split(";"))
    again = with_opus_parameters(stereo=0)(changed)
    assert "stereo=0" in again
    assert "stereo=1" not in again
    bare = "\r\n".join(each for each in offer.splitlines() if not each.startswith(f"a=fmtp:{number} "))
    assert f"a=fmtp:{number} usedtx=1" in with_opus_parameters(usedtx=1)(bare)


def test_the_length_of_packets_is_asked_for_once(offer: str) -> None:
    changed = with_ptime(60)(with_ptime(10)(offer))
    assert [line for line in changed.splitlines() if line.startswith(("a=ptime", "a=maxptime"))] == [
        "a=ptime:60",
        "a=maxptime:60",
    ]
    assert "a=ptime:60" in audio_lines(changed)


def test_redundancy_comes_first(offer: str) -> None:
    (red,) = payload_types(offer, "red/48000")
    line = next(line for line in offer.splitlines() if line.startswith("m=audio"))
    late = offer.replace(line, f"{line.replace(f' {red}', '', 1)} {red}")
    assert sections(late)[0].formats[-1] == red
    assert sections(red_first(late))[0].formats[0] == red


@pytest.mark.parametrize(("codec", "number"), [("PCMU", "0"), ("PCMA", "8")])
def test_one_codec_alone_is_left(offer: str, codec: str, number: str) -> None:
    changed = only_codec(codec)(offer)
    assert sections(changed)[0].formats == [number]
    assert "opus" not in changed
    SessionDescription.parse(changed)


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_a_section_more_is_whole_and_can_be_taken_out(offer: str, kind: str) -> None:
    changed = with_section(offer, kind)
    assert [section.kind for section in sections(changed)] == ["audio", "application", kind]
    mids = [section.value("mid") for section in sections(changed)]
    assert len(set(mids)) == 3
    assert next(line for line in changed.splitlines() if line.startswith("a=group:BUNDLE")).split()[1:] == mids
    assert sections(changed)[-1].value("ice-ufrag") == first_value(offer, "ice-ufrag")
    SessionDescription.parse(changed)
    assert without_last_section(changed).splitlines() == offer.splitlines()


def test_bundle_only_sections_have_no_port_and_no_transport(offer: str) -> None:
    first, second = sections(bundle_only(offer))
    assert first.line.split()[1] != "0"
    assert (second.line.split()[1], second.is_declined) == ("0", False)
    assert not any(line.startswith(("a=candidate", "a=ice-ufrag")) for line in second.lines)


def test_values_are_found(offer: str) -> None:
    assert all(line.startswith("candidate:") for line in candidate_lines(offer))
    assert len(candidate_lines(offer)) == 2
    assert max_message_size(offer) == 262_144
    assert max_message_size("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n") == 65_536
    assert udp_candidate(offer) == ("192.0.2.7", 4001)
    assert udp_candidate(offer, 6) == ("fd00::7", 4000)
    with pytest.raises(ValueError, match="IPv6"):
        udp_candidate(offer.replace("fd00::7", "192.0.2.8"), 6)


def test_the_machine_has_an_address_of_each_kind() -> None:
    assert "." in machine_address()
    assert ":" in machine_address(6)


def test_a_fragment_names_its_offer_and_changes_an_answer(offer: str) -> None:
    fragment = fragment_of(offer, ["candidate:1 1 udp 1 192.0.2.9 5 typ host"])
    lines = fragment.splitlines()
    credentials = f"a=ice-ufrag:{first_value(offer, 'ice-ufrag')}"
    section = next(number for number, line in enumerate(lines) if line.startswith("m=audio "))
    assert lines.index(credentials) > section
    of_session = f"v=0\r\n{credentials}\r\n{offer[5:].replace(credentials, 'a=x', 2)}"
    assert fragment_of(of_session, []).index(credentials) < fragment_of(of_session, []).index("m=audio")
    assert lines[-1] == "a=candidate:1 1 udp 1 192.0.2.9 5 typ host"
    assert f"a=mid:{first_value(offer, 'mid')}" in lines
    fresh = "a=ice-ufrag:fresh\r\na=ice-pwd:" + "p" * 24 + "\r\na=candidate:2 1 udp 2 192.0.2.10 6 typ host\r\n"
    changed = changed_by(offer, fresh)
    assert first_value(changed, "ice-ufrag") == "fresh"
    assert udp_candidate(changed) == ("192.0.2.10", 6)
    assert "192.0.2.7" not in [line.split()[4] for line in changed.splitlines() if "candidate:" in line]
    assert first_value(changed, "fingerprint") == first_value(offer, "fingerprint")
