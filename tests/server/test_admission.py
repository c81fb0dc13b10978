"""Which checks make a session, what they may make, and that nothing lasts that proves nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path as FilePath

import pytest

from stack.core.machine import Address, Path, Transmit
from stack.dtls import Certificate
from stack.sdp import PCMU, SessionDescription, negotiate
from stack.server import Endpoint, UnknownCheck
from stack.server.admission import CLOCK_SKEW, MAX_SEEN, AdmissionLimits, Admitted, TicketAdmission
from stack.server.endpoint import MAX_EXPECTED, MAX_EXPECTED_CHECKS, MAX_UNKNOWN_CHECKS
from stack.session import LocalWishes, make_local_parameters
from stack.session.ticket_keys import TicketKey, TicketRing
from stack.session.ticket_terms import TicketSite, TicketWishes, make_ticket
from stack.stun import ErrorCode, Message, MessageClass, Method, Username, short_term_key, verify_integrity
from tests.sim.certificates import EPOCH
from tests.sim.entropy import entropy

SERVER = Address("192.0.2.1", 3478)
SITE = TicketSite([SERVER])
KEY = TicketKey(1, hashlib.sha256(b"admission").digest(), Certificate.generate(entropy("admission"), EPOCH))
OFFER = SessionDescription.parse(
    (FilePath(__file__).parent.parent / "vectors/offers/chromium156-audio_dc.sdp").read_text()
)
DRAFT = make_local_parameters(entropy("draft"), KEY.certificate, SITE.addresses, LocalWishes(ice_lite=True))
AGREED = negotiate(OFFER, DRAFT)
EXPIRY = 2_000_000_000
WALL = EXPIRY - 30.0
SMALL = AdmissionLimits(half_open=6, per_ticket=2, per_address=4)


def ufrag(number: int = 0, key: TicketKey = KEY) -> str:
    ticket = make_ticket(AGREED, SITE, TicketWishes(EXPIRY, number.to_bytes(8, "big")))
    assert ticket is not None
    return key.seal(ticket, 0)


def path(host: str = "198.51.100.1", port: int = 5000) -> Path:
    return Path(SERVER, Address(host, port))


def signed(
    fragment: str, remote: str = "abcd", password: str | None = None, kind: MessageClass = MessageClass.REQUEST
) -> bytes:
    message = Message(kind, Method.BINDING, bytes(12), (Username(f"{fragment}:{remote}"),))
    return message.sign(short_term_key(password or KEY.password(fragment)))


class Door:
    """An admission, and what to ask it with."""

    def __init__(self, limits: AdmissionLimits | None = None, *revoked: bytes) -> None:
        self.admission = TicketAdmission(TicketRing.of([KEY], revoked), SITE, limits)
        self.refusal: Transmit | None = None

    def ask(
        self,
        number: int = 0,
        remote: str = "abcd",
        *,
        host: str = "198.51.100.1",
        now: float = 0.0,
        wall: float = WALL,
        is_stray: bool = False,
    ) -> Admitted | None:
        fragment = ufrag(number)
        found = self.admission.admit(
            signed(fragment, remote), f"{fragment}:{remote}", path(host), now, wall, is_stray
        )
        self.refusal = found if isinstance(found, Transmit) else None
        return None if isinstance(found, Transmit) else found

    def admit(self, number: int = 0, remote: str = "abcd", *, host: str = "198.51.100.1", now: float = 0.0) -> str:
        admitted = self.ask(number, remote, host=host, now=now)
        assert admitted is not None
        return admitted.name

    def count(self, name: str) -> int:
        return self.admission.counters[f"ticket.{name}"]


def test_a_signed_check_makes_the_session_of_its_ticket() -> None:
    door = Door()
    admitted = door.ask()
    assert admitted is not None
    assert admitted.parameters.negotiation.remote_ice_ufrag == "abcd"
    assert admitted.parameters.local.ice_ufrag == ufrag()
    assert admitted.may_speak_early
    assert admitted.name == KEY.call_id(f"{ufrag()}:abcd")
    assert (door.count("made"), door.admission.half_open) == (1, 1)


@pytest.mark.parametrize(
    ("data", "username", "counter"),
    [
        (signed("0+000000000000", password="x" * 24), "0+000000000000:abcd", "dropped_forged"),
        (signed(ufrag(), password="x" * 24), f"{ufrag()}:abcd", "dropped_unsigned"),
        (signed(ufrag(), kind=MessageClass.INDICATION), f"{ufrag()}:abcd", "dropped_unsigned"),
        (signed(ufrag()), ufrag(), "dropped_unsigned"),
        (signed(ufrag()), f"{ufrag()[:-1]}:abcd", "dropped_forged"),
        (signed(ufrag()), f"{'1' + ufrag()[1:]}:abcd", "dropped_forged"),
        (
            signed(ufrag(0, TicketKey(17, bytes(32), KEY.certificate))),
            f"{ufrag(0, TicketKey(17, bytes(32), KEY.certificate))}:abcd",
            "dropped_forged",
        ),
    ],
)
def test_what_makes_nothing(data: bytes, username: str, counter: str) -> None:
    door = Door()
    assert door.admission.admit(data, username, path(), 0.0, WALL) is None
    assert door.count(counter) == 1
    assert (door.count("made"), door.admission.half_open) == (0, 0)


@pytest.mark.parametrize(("wall", "is_honoured"), [(-300.0, True), (0.0, True), (299.0, True), (301.0, False)])
def test_two_servers_may_differ_by_five_minutes(wall: float, is_honoured: bool) -> None:
    door = Door()
    assert (door.ask(wall=EXPIRY + wall) is not None) is is_honoured
    assert door.count("dropped_expired") == (not is_honoured)
    assert CLOCK_SKEW == 300.0


def test_a_revoked_ticket_makes_nothing() -> None:
    door = Door(None, (0).to_bytes(8, "big"))
    assert door.ask(0) is None
    assert door.ask(1) is None, "it is of the same chain"
    assert door.ask(1 << 16) is not None
    assert door.count("dropped_revoked") == 2


def test_a_new_ring_opens_what_it_holds_and_leaves_what_is_up() -> None:
    door = Door()
    name = door.admit()
    door.admission.ring = TicketRing.of([TicketKey(2, bytes(32), KEY.certificate)])
    assert door.ask(1) is None
    assert door.admission.is_half_open(name)
    assert door.admission.note_proven(name) == []


def test_the_same_ticket_again_takes_the_place_of_the_call_that_it_has_made() -> None:
    door = Door()
    former = door.admit(remote="aaaa")
    assert door.admission.note_proven(former) == []
    later = door.admit(remote="bbbb", now=5.0)
    assert door.admission.is_half_open(later), "and what proves nothing ends nothing"
    assert door.admission.note_proven(later) == [former]
    assert door.count("superseded") == 1
    door.admission.note_ended(former)
    assert door.admission.note_proven(later) == []
    assert door.admission.half_open == 0


def test_a_copy_of_a_former_check_keeps_no_client_out() -> None:
    door = Door(SMALL)
    door.admit(remote="old1")
    door.admit(remote="old2")
    assert door.ask(remote="mine", now=1.0) is None, "both are young"
    name = door.admit(remote="mine", now=3.0)
    assert door.admission.drain_displaced() == [KEY.call_id(f"{ufrag()}:old1")]
    assert door.admission.note_proven(name) == [KEY.call_id(f"{ufrag()}:old2")]


def test_a_pair_that_was_seen_before_is_not_spoken_to_early() -> None:
    door = Door()
    door.admission.note_ended(door.admit())
    again = door.ask()
    assert again is not None
    assert not again.may_speak_early
    assert door.count("replayed") == 1
    other = door.ask(remote="efgh")
    assert other is not None
    assert other.may_speak_early


def test_half_open_sessions_are_bounded_by_address_and_altogether() -> None:
    door = Door(SMALL)
    names = [door.admit(number) for number in range(4)]
    assert door.ask(4) is None
    names += [door.admit(number, host="198.51.100.2") for number in (5, 6)]
    assert door.ask(7, host="198.51.100.3") is None
    assert door.count("dropped_half_open") == 2
    door.admission.note_proven(names[0])
    assert door.ask(8) is not None
    for name in names:
        door.admission.note_ended(name)
    assert door.admission.half_open == 1


def test_the_same_check_while_its_session_is_there_makes_no_other() -> None:
    door = Door()
    door.admit()
    assert door.ask() is None
    assert door.admission.half_open == 1


def test_what_is_over_leaves_nothing_behind() -> None:
    door = Door()
    for number in range(200):
        name = door.admit(number)
        if number % 2:
            door.admission.note_proven(name)
        door.admission.note_ended(name)
        door.admission.note_ended(name)
    assert door.admission.half_open == 0
    admission = door.admission
    assert not admission._sessions
    assert not admission._by_reference
    assert not admission._half_open_at
    assert len(admission._seen) == 200 < MAX_SEEN


def test_what_is_not_known_is_nothing() -> None:
    door = Door()
    assert door.admission.note_proven("other") == []
    assert not door.admission.is_half_open("other")
    door.admission.note_ended("other")


class Silent:
    """A machine that proves its path and says nothing."""

    terminal_events = ()
    is_finished = False

    def __init__(self) -> None:
        self._routes: list[Path] = []
        self.checks = 0

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: float) -> None:
        for _, where in batch:
            self.checks += 1
            self._routes.append(where)

    def handle_timeout(self, now: float) -> None:
        """Nothing is due."""

    def poll_timeout(self) -> None:
        """Nothing will be."""

    def drain_transmits(self) -> Sequence[Transmit]:
        return ()

    def drain_events(self) -> Sequence[str]:
        return ()

    def drain_routes(self) -> Sequence[Path]:
        routes, self._routes = self._routes, []
        return routes


def test_ten_thousand_tickets_on_one_port() -> None:
    admission = TicketAdmission(TicketRing.of([KEY]), SITE)
    machines: dict[str, Silent] = {}

    def resolve(unknown: UnknownCheck, now: float) -> tuple[str, Silent] | None:
        admitted = admission.admit(unknown.data, unknown.username, unknown.path, now, WALL)
        if admitted is None:
            return None
        machines[admitted.name] = Silent()
        admission.note_proven(admitted.name)
        return admitted.name, machines[admitted.name]

    ticket = make_ticket(AGREED, SITE, TicketWishes(EXPIRY, bytes(8)))
    assert ticket is not None
    endpoint: Endpoint[str] = Endpoint(resolve, max_sessions=10_000)
    for number in range(10_000):
        fragment = KEY.seal(replace(ticket, reference=number.to_bytes(8, "big")), number % 36)
        first = signed(fragment), path(f"198.51.{number // 250}.{number % 250}")
        endpoint.handle_datagrams([first, first, (b"\x80media", first[1])], number / 900)
    assert len(endpoint) == len(machines) == 10_000
    assert {machine.checks for machine in machines.values()} == {3}, (
        "each found its own, and its media by its path"
    )
    assert admission.half_open == 0
    assert endpoint.counters["endpoint.dropped_unknown_ufrag"] == 0


def test_a_signed_check_of_which_no_session_comes_is_refused_in_a_signed_error() -> None:
    expired, revoked, given_up = Door(), Door(None, (0).to_bytes(8, "big")), Door()
    expired.ask(wall=EXPIRY + CLOCK_SKEW + 1.0)
    revoked.ask()
    name = given_up.admit()
    given_up.admission.note_given_up(name)
    given_up.admission.note_ended(name)
    given_up.ask()
    for door in (expired, revoked, given_up):
        assert door.refusal is not None
        assert door.refusal.path == path()
        assert len(door.refusal.data) < len(signed(ufrag()))
        assert verify_integrity(door.refusal.data, short_term_key(KEY.password(ufrag())))
        message = Message.parse(door.refusal.data)
        error = message.get(ErrorCode)
        assert message.message_class is MessageClass.ERROR_RESPONSE
        assert error is not None
        assert error.code == 404
        assert door.count("refused") == 1
    assert given_up.ask(remote="efgh") is not None  # another connection of the same page


def test_what_the_password_has_not_signed_is_not_answered() -> None:
    door, fragment = Door(), ufrag()
    for data in (signed(fragment, password="another-password-of-22"), signed(fragment)[:40]):
        late = EXPIRY + CLOCK_SKEW + 1.0
        assert door.admission.admit(data, f"{fragment}:abcd", path(), 0.0, late) is None
    assert door.count("refused") == 0


def test_an_endpoint_sends_the_refusal() -> None:
    refusal = Transmit(b"refused", path())
    endpoint: Endpoint[object] = Endpoint(resolve=lambda check, now: refusal)
    endpoint.handle_datagrams([(signed(ufrag()), path())], 0.0)
    assert list(endpoint.drain_transmits()) == [refusal]
    assert len(endpoint) == 0


def test_a_session_makes_no_room_for_one_that_is_refused() -> None:
    door = Door(SMALL)
    oldest = door.admit(0, "aaaa", host="198.51.100.9")
    door.admit(0, "bbbb", host="198.51.100.9")
    for number in range(1, 3):
        for remote in ("aaaa", "bbbb"):
            door.admit(number, remote)
    assert door.ask(0, "cccc", now=3.0) is None, "its address has four already"
    assert door.admission.drain_displaced() == []
    assert door.admission.is_half_open(oldest)
    assert door.ask(0, "cccc", host="198.51.100.8", now=3.0) is not None
    assert door.admission.drain_displaced() == [oldest]


def test_a_fragment_that_was_answered_with_is_looked_at_beside_a_flood() -> None:
    asked: list[str] = []

    def note(check: UnknownCheck, now: float) -> None:
        asked.append(check.username.partition(":")[0])

    endpoint: Endpoint[object] = Endpoint(resolve=note)
    endpoint.expect(ufrag(1))
    stranger, expected = (signed(ufrag(0)), path()), (signed(ufrag(1)), path())
    endpoint.handle_datagrams([stranger] * (MAX_UNKNOWN_CHECKS + 50), 0.0)
    endpoint.handle_datagrams([expected] * (MAX_EXPECTED_CHECKS + 5), 0.1)
    assert asked.count(ufrag(0)) == MAX_UNKNOWN_CHECKS
    assert asked.count(ufrag(1)) == MAX_EXPECTED_CHECKS
    assert endpoint.counters["endpoint.dropped_unknown_ufrag_rate"] == 55
    for number in range(2, MAX_EXPECTED + 2):  # which makes room for itself
        endpoint.expect(str(number))
    endpoint.expect(ufrag(1))
    endpoint.handle_datagrams([(signed(ufrag(1)), path())], 0.2)
    assert asked.count(ufrag(1)) == MAX_EXPECTED_CHECKS + 1
    assert len(endpoint._expected) <= MAX_EXPECTED


def test_a_ticket_with_a_codec_that_is_not_here_is_refused() -> None:
    """Another server with the same key has made it: half a call would be worse than one over HTTP."""
    door = Door()
    door.admission = TicketAdmission(TicketRing.of([KEY]), replace(SITE, codecs=(PCMU,)))
    assert door.ask() is None
    assert door.refusal is not None
    assert Message.parse(door.refusal.data).message_class is MessageClass.ERROR_RESPONSE
    assert door.admission.half_open == 0


def test_a_check_from_the_middle_of_a_lost_session_is_refused_and_signed() -> None:
    door = Door()
    assert door.ask(is_stray=True) is None
    assert door.refusal is not None
    response = Message.parse(door.refusal.data)
    error = response.get(ErrorCode)
    assert error is not None
    assert error.code == 404
    assert verify_integrity(door.refusal.data, short_term_key(KEY.password(ufrag())))
    assert (door.count("orphaned"), door.count("made"), door.admission.half_open) == (1, 0, 0)
    assert door.ask() is not None  # without such packets it is a new call


def test_a_session_that_is_here_is_no_stray() -> None:
    door = Door()
    assert door.ask() is not None
    assert door.ask(is_stray=True) is None
    assert door.refusal is None


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_check_of_a_session_that_an_offer_made_is_refused_where_its_password_follows(epochs: int) -> None:
    """Such a fragment is random; a process that does not have its session knows the password all the same."""
    later = [TicketKey(2 + n, bytes([n]) * 32, KEY.certificate) for n in range(epochs - 1)]
    admission = TicketAdmission(TicketRing.of([KEY, *later]), SITE)
    fragment = "0n1+0123456789ab"
    found = admission.admit(signed(fragment), f"{fragment}:abcd", path(), 0.0, WALL)
    assert isinstance(found, Transmit)
    assert verify_integrity(found.data, short_term_key(KEY.password(fragment)))
    assert len(found.data) <= len(signed(fragment))
    assert admission.admit(signed(fragment, password="x" * 24), f"{fragment}:abcd", path(), 0.0, WALL) is None
