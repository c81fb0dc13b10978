"""Candidates: the lines that browsers write, priorities, what is refused."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.core.errors import LocalError, ParseError
from stack.core.machine import Address, TransportProtocol
from stack.ice import Candidate, CandidateType, TcpType, compute_foundation, compute_priority

CHROMIUM = (
    "candidate:1354300898 1 udp 2122260223 127.0.0.1 41591 typ host generation 0 network-id 1 network-cost 50"
)
FIREFOX = "candidate:1 2 UDP 2122252542 ::1 41630 typ host"
MDNS = (
    "candidate:2651121081 1 udp 2113937151 77e51b28-eed0-4e8f-9f87-69f2a9a3d9e3.local 42876 typ host generation 0"
)
TCP = "candidate:2 1 TCP 2105458943 127.0.0.1 9 typ host tcptype active"
REFLEXIVE = (
    "candidate:842163049 1 udp 1677729535 203.0.113.9 46154 typ srflx raddr 192.168.1.4 rport 46154 generation 0"
)


def test_a_line_of_chromium() -> None:
    candidate = Candidate.parse(CHROMIUM)
    assert candidate.address == Address("127.0.0.1", 41591)
    assert candidate.priority == 2122260223
    assert candidate.type is CandidateType.HOST
    assert candidate.extensions == (("generation", "0"), ("network-id", "1"), ("network-cost", "50"))
    assert candidate.serialize() == CHROMIUM


def test_a_line_of_firefox() -> None:
    candidate = Candidate.parse(FIREFOX)
    assert candidate.component == 2
    assert candidate.protocol is TransportProtocol.UDP
    assert candidate.address == Address("::1", 41630)


def test_a_name_is_kept_but_is_no_address() -> None:
    candidate = Candidate.parse("a=" + MDNS)
    assert not candidate.is_address
    assert candidate.host.endswith(".local")
    assert candidate.serialize() == MDNS
    with pytest.raises(LocalError):
        _ = candidate.address


def test_tcp_and_reflexive_candidates() -> None:
    assert Candidate.parse(TCP).tcp_type is TcpType.ACTIVE
    reflexive = Candidate.parse(REFLEXIVE)
    assert (reflexive.related_host, reflexive.related_port) == ("192.168.1.4", 46154)
    assert reflexive.serialize() == REFLEXIVE


def test_addresses_become_canonical() -> None:
    candidate = Candidate.parse("1 1 udp 1 2001:DB8:0:0::0001 5 typ host")
    assert candidate.address == Address("2001:db8::1", 5)
    assert Candidate.parse("1 1 udp 1 fe80::1%eth0 5 typ host").host == "fe80::1"


def test_host_candidates_of_our_own() -> None:
    candidate = Candidate.host_candidate(Address("192.0.2.1", 5000))
    # RFC 8445 §5.1.2.1: 126 << 24 | 65535 << 8 | 255
    assert candidate.priority == 2130706431
    assert Candidate.parse(candidate.serialize()) == candidate
    assert Candidate.host_candidate(Address("192.0.2.1", 5001)).foundation == candidate.foundation
    assert Candidate.host_candidate(Address("192.0.2.2", 5000)).foundation != candidate.foundation


def test_types_are_preferred_in_the_order_of_the_specification() -> None:
    kinds = [
        CandidateType.HOST,
        CandidateType.PEER_REFLEXIVE,
        CandidateType.SERVER_REFLEXIVE,
        CandidateType.RELAYED,
    ]
    priorities = [compute_priority(kind) for kind in kinds]
    assert priorities == sorted(priorities, reverse=True)
    assert len({compute_foundation(kind, "192.0.2.1", TransportProtocol.UDP) for kind in kinds}) == 4
    with pytest.raises(LocalError):
        compute_priority(CandidateType.HOST, 65536)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "candidate:1 1 udp 1 127.0.0.1 5",
        "candidate:1 1 udp 1 127.0.0.1 5 type host",
        "candidate:1 1 udp 1 127.0.0.1 5 typ unheard-of",
        "candidate:1 1 sctp 1 127.0.0.1 5 typ host",
        "candidate:1 0 udp 1 127.0.0.1 5 typ host",
        "candidate:1 1 udp 4294967296 127.0.0.1 5 typ host",
        "candidate:1 1 udp -1 127.0.0.1 5 typ host",
        "candidate:1 1 udp 1 127.0.0.1 65536 typ host",
        "candidate:1 1 udp 1 127.0.0.1 ５ typ host",
        "candidate:1 1 tcp 1 127.0.0.1 9 typ host tcptype sideways",
        "candidate:1 1 udp 1 127.0.0.1 5 typ srflx raddr 1.2.3.4 rport x",
        f"candidate:{'1' * 33} 1 udp 1 127.0.0.1 5 typ host",
        "candidate:1 1 udp 1 127.0.0.1 5 typ host " + "x y " * 300,
    ],
)
def test_what_is_no_candidate_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        Candidate.parse(text)


@given(
    st.one_of(
        st.text(max_size=80), st.lists(st.sampled_from([*CHROMIUM.split(), "raddr", "²", "::1%"]), max_size=14)
    )
)
@settings(max_examples=200, deadline=None)
def test_hostile_text_raises_nothing_but_parse_error(text: str | list[str]) -> None:
    with suppress(ParseError):
        candidate = Candidate.parse(text if isinstance(text, str) else " ".join(text))
        assert Candidate.parse(candidate.serialize()) == candidate


def test_the_base_of_a_local_candidate() -> None:
    base, mapped, server = Address("10.0.0.1", 5000), Address("203.0.113.1", 7000), Address("192.0.2.1", 3478)
    assert Candidate.host_candidate(base).base_address == base
    reflexive = Candidate.server_reflexive(mapped, base, server)
    assert (reflexive.address, reflexive.base_address) == (mapped, base)
    assert reflexive.serialize().endswith("203.0.113.1 7000 typ srflx raddr 10.0.0.1 rport 5000")
    relayed = Candidate.relayed(Address("192.0.2.1", 50000), mapped, server)
    assert relayed.base_address == Address("192.0.2.1", 50000)
    assert relayed.serialize().endswith("192.0.2.1 50000 typ relay raddr 203.0.113.1 rport 7000")
    # RFC 8445 §5.1.1.3: other servers, other foundations
    assert Candidate.server_reflexive(mapped, base, mapped).foundation != reflexive.foundation


def test_tcp_candidates_are_worth_less_than_those_of_udp() -> None:
    address = Address("10.0.0.1", 5000)
    active, passive = (Candidate.tcp_candidate(kind, address) for kind in (TcpType.ACTIVE, TcpType.PASSIVE))
    assert active.port == 9  # RFC 6544 §4.5
    assert passive.port == 5000
    reflexive = Candidate.server_reflexive(address, Address("10.0.0.2", 1), address, 0)
    assert reflexive.priority > active.priority > passive.priority
    assert active.serialize().endswith("10.0.0.1 9 typ host tcptype active")
    assert Candidate.parse(passive.serialize()) == passive


def test_an_ipv4_candidate_through_a_nat64() -> None:
    # RFC 6052 §2.4
    candidate = Candidate.host_candidate(Address("192.0.2.33", 5000))
    assert candidate.through_nat64("64:ff9b::").address == Address("64:ff9b::c000:221", 5000)
    other = Candidate.host_candidate(Address("2001:db8::1", 5000))
    assert other.through_nat64("64:ff9b::") is other
