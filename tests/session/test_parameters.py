"""What a side says of itself: its candidates behind 1:1 NATs."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from stack.core.errors import LocalError
from stack.core.machine import Address
from stack.dtls import Certificate
from stack.session import LocalWishes, make_local_parameters
from tests.sim.entropy import entropy

CERTIFICATE = Certificate.generate(entropy("certificate"), datetime(2026, 1, 1, tzinfo=UTC))
FIRST, SECOND = Address("10.0.0.5", 3478), Address("10.1.0.5", 3478)
SIXTH = Address("2001:db8::5", 3478)


def offered(udp: list[Address], public: list[str], tcp: tuple[Address, ...] = ()) -> list[tuple[str, str, int]]:
    """Return transport, address and port of each candidate."""
    local = make_local_parameters(entropy("x"), CERTIFICATE, udp, LocalWishes(tcp=tcp), public)
    fields = [line.split() for line in local.candidates]
    return [(each[2], each[4], int(each[5])) for each in fields]


@pytest.mark.parametrize(
    ("public", "expected"),
    [
        ([], ["10.0.0.5", "2001:db8::5", "10.1.0.5"]),
        (["203.0.113.7"], ["203.0.113.7", "2001:db8::5"]),
        (["2001:db8::7"], ["10.0.0.5", "2001:db8::7", "10.1.0.5"]),
        (["203.0.113.7", "2001:db8::7", "203.0.113.8"], ["203.0.113.7", "203.0.113.8", "2001:db8::7"]),
    ],
)
def test_a_public_address_replaces_those_of_its_family(public: list[str], expected: list[str]) -> None:
    assert [host for _, host, _ in offered([FIRST, SIXTH, SECOND], public)] == expected


def test_a_family_that_has_no_socket_is_not_offered() -> None:
    tcp = (Address("10.0.0.5", 443),)
    assert offered([FIRST, SIXTH], ["203.0.113.7", "2001:db8::7"], tcp) == [
        ("udp", "203.0.113.7", 3478),
        ("udp", "2001:db8::7", 3478),
        ("tcp", "203.0.113.7", 443),
    ]


def test_each_family_has_a_port_of_its_own() -> None:
    other = Address("2001:db8::5", 4000)
    assert [port for _, _, port in offered([FIRST, other], ["203.0.113.7", "2001:db8::7"])] == [3478, 4000]
    with pytest.raises(LocalError, match="one port"):
        offered([FIRST, Address("10.1.0.5", 4000)], ["203.0.113.7"])
