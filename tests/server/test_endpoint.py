"""One port, many sessions: who gets which datagram, and who is woken when."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from stack.core.errors import LocalError
from stack.core.machine import Address, Path, Transmit
from stack.server import Endpoint, Routes, SingleEndpoint, UnknownCheck
from stack.server.endpoint import FAULT_PAUSE, MAX_ASKED, MAX_CHECKS, MAX_STRAYS, MAX_TRIED, MAX_UNKNOWN_CHECKS
from stack.stun import Message, MessageClass, Method, TransactionId, Username

LOCAL = Address("127.0.0.1", 3478)
MEDIA = bytes([0x80, 111]) + bytes(20)
POISON = bytes([0x80, 111]) + b"poison"


def path(port: int) -> Path:
    return Path(LOCAL, Address("192.0.2.7", port))


def check(username: str) -> bytes:
    return Message(MessageClass.REQUEST, Method.BINDING, bytes(12), (Username(username),)).serialize()


class Recorder:
    """A machine that proves the path of a check, and echoes what it gets. It raises what it is told to."""

    terminal_events = ()

    def __init__(self, name: str) -> None:
        self.name = name
        self.received: list[bytes] = []
        self.batches = 0
        self.woken: list[float] = []
        self.deadline: float | None = None
        self.finished = False
        self.broken: set[str] = set()
        self.ssrcs: tuple[int, ...] = ()
        self.known_by_records = False
        self.proves = True
        self._routes: list[Path] = []
        self._transmits: list[Transmit] = []

    def handle_datagram(self, data: bytes, path: Path, now: float) -> None:
        if data == POISON:
            raise RuntimeError("poisoned")
        self.received.append(data)
        self._transmits.append(Transmit(data, path))
        if data[:1] < b"\4" and self.proves:
            self._routes.append(path)

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: float) -> None:
        self.batches += 1
        for data, path in batch:
            self.handle_datagram(data, path, now)

    def handle_timeout(self, now: float) -> None:
        self.woken.append(now)
        if "handle_timeout" in self.broken:
            raise RuntimeError("cannot be woken")
        self.deadline = None

    def poll_timeout(self) -> float | None:
        return self.deadline

    def drain_transmits(self):
        out, self._transmits = self._transmits, []
        return out

    def drain_events(self):
        if "drain_events" in self.broken:
            raise RuntimeError("cannot be drained")
        return [f"{self.name}:{len(self.received)}"]

    def drain_routes(self):
        out, self._routes = self._routes, []
        return out

    @property
    def sources(self) -> tuple[int, ...]:
        return self.ssrcs

    @property
    def is_known_by_records(self) -> bool:
        return self.known_by_records

    @property
    def is_finished(self) -> bool:
        return self.finished


def make(*names: str) -> tuple[Endpoint[str], dict[str, Recorder]]:
    endpoint: Endpoint[str] = Endpoint()
    machines = {name: Recorder(name) for name in names}
    for name, machine in machines.items():
        endpoint.add(name, machine, name)
    endpoint.pump()
    endpoint.drain_events()
    return endpoint, machines


def test_media_follows_the_path_that_a_check_has_proven() -> None:
    endpoint, machines = make("aaaa", "bbbb")
    endpoint.handle_datagrams([(check("aaaa:x"), path(1)), (check("bbbb:x"), path(2))], 0.0)
    endpoint.handle_datagrams([(MEDIA, path(1)), (MEDIA, path(2)), (MEDIA, path(2))], 0.1)
    assert [len(machine.received) for machine in machines.values()] == [2, 3]
    assert len(endpoint.drain_transmits()) == 5
    assert endpoint.drain_events()[-1] == ("bbbb", "bbbb:3")


def test_what_arrived_together_is_handed_over_together_but_each_check_at_once() -> None:
    endpoint, machines = make("aaaa", "bbbb")
    batch = [(check("aaaa:x"), path(1)), (check("bbbb:x"), path(2))]
    batch += [(MEDIA, path(1)), (MEDIA, path(2)), (MEDIA, path(1)), (check("aaaa:x"), path(3)), (MEDIA, path(3))]
    endpoint.handle_datagrams(batch, 0.0)
    assert [len(machine.received) for machine in machines.values()] == [5, 2]
    assert [machine.batches for machine in machines.values()] == [3, 2]
    assert machines["aaaa"].received == [data for data, at in batch if at != path(2)], "in their order"


def test_media_on_an_unknown_path_is_counted_and_dropped() -> None:
    endpoint, machines = make("aaaa")
    endpoint.handle_datagrams([(MEDIA, path(9)), (b"", path(9)), (b"\x00", path(9))], 0.0)
    assert machines["aaaa"].received == []
    assert endpoint.counters["endpoint.dropped_unknown_path"] == 3


def test_an_unknown_ufrag_is_counted_and_dropped() -> None:
    endpoint, _ = make("aaaa")
    endpoint.handle_datagrams([(check("zzzz:x"), path(1))], 0.0)
    assert endpoint.counters["endpoint.dropped_unknown_ufrag"] == 1


def test_the_same_port_can_be_taken_over_by_a_new_call() -> None:
    endpoint, machines = make("aaaa", "bbbb")
    endpoint.handle_datagrams([(check("aaaa:x"), path(1)), (check("bbbb:x"), path(1)), (MEDIA, path(1))], 0.0)
    assert machines["bbbb"].received[-1] == MEDIA


def test_a_session_can_be_made_by_its_first_packet() -> None:
    made: list[tuple[str, Path, bytes]] = []

    def resolve(unknown: UnknownCheck, now: float) -> tuple[str, Recorder] | None:
        made.append((unknown.username, unknown.path, unknown.data))
        return ("made", Recorder("made")) if unknown.username == "known:x" else None

    endpoint: Endpoint[str] = Endpoint(resolve)
    endpoint.handle_datagrams([(check("known:x"), path(1)), (check("other:x"), path(2)), (MEDIA, path(1))], 0.0)
    assert made == [("known:x", path(1), check("known:x")), ("other:x", path(2), check("other:x"))]
    assert len(endpoint) == 1
    assert endpoint.drain_events()[-1] == ("made", "made:2")
    endpoint.handle_datagrams([(check("known:x"), path(3)), (check("known:y"), path(4))], 0.1)
    assert [username for username, _, _ in made[2:]] == ["known:y"]  # another connection, as it may be
    assert endpoint.drain_events() == [("made", "made:3")]


def test_nothing_is_made_where_there_is_no_room() -> None:
    def resolve(unknown: UnknownCheck, now: float) -> tuple[str, Recorder] | None:
        return unknown.username, Recorder(unknown.username)

    endpoint: Endpoint[str] = Endpoint(resolve, max_sessions=1)
    endpoint.handle_datagrams([(check("a:x"), path(1)), (check("b:x"), path(2)), (check("a:x"), path(3))], 0.0)
    assert len(endpoint) == 1
    assert endpoint.counters["endpoint.dropped_full"] == 1
    endpoint.uncounted = 1
    endpoint.handle_datagrams([(check("b:x"), path(2)), (check("c:x"), path(4))], 0.1)
    assert len(endpoint) == 2
    assert endpoint.counters["endpoint.dropped_full"] == 2


def test_checks_that_name_no_session_are_looked_at_so_often_and_those_of_calls_always() -> None:
    asked: list[str] = []

    def resolve(unknown: UnknownCheck, now: float) -> None:
        asked.append(unknown.username)

    endpoint: Endpoint[str] = Endpoint(resolve)
    machine = Recorder("aaaa")
    endpoint.add("aaaa", machine, "aaaa")
    flood = [(check(f"none:{number}"), path(1)) for number in range(MAX_UNKNOWN_CHECKS + 10)]
    endpoint.handle_datagrams([*flood, (check("aaaa:x"), path(2))], 5.0)
    assert len(asked) == MAX_UNKNOWN_CHECKS
    assert endpoint.counters["endpoint.dropped_unknown_ufrag_rate"] == 10
    assert len(machine.received) == 1
    endpoint.handle_datagrams(flood[:1], 6.0)
    assert len(asked) == MAX_UNKNOWN_CHECKS + 1


def test_checks_of_a_call_have_bounds_of_their_own_on_its_paths_and_on_others() -> None:
    endpoint: Endpoint[str] = Endpoint()
    machine = Recorder("alice")
    endpoint.add("alice", machine, "ufragA")
    wanted = check("ufragA:peer")
    endpoint.handle_datagrams([(wanted, path(1))], 0.0)
    machine.proves = False  # the checks that follow are not signed
    endpoint.handle_datagrams([(wanted, path(2))] * 10_000, 0.5)
    assert len(machine.received) == MAX_CHECKS
    assert endpoint.counters["endpoint.dropped_check_rate"] == 10_001 - MAX_CHECKS
    endpoint.handle_datagrams([(wanted, path(1)), (MEDIA, path(1))], 0.6)
    assert machine.received[-2:] == [wanted, MEDIA], "the peer itself is heard"
    endpoint.handle_datagrams([(wanted, path(1))] * 10_000, 0.7)
    assert len(machine.received) == 2 * MAX_CHECKS + 1, "what a peer may ask for has a bound, too"
    endpoint.handle_datagrams([(wanted, path(2)), (wanted, path(1))], 1.5)
    assert len(machine.received) == 2 * MAX_CHECKS + 3, "a second later there is room again"


def test_only_those_that_are_due_are_woken() -> None:
    endpoint, machines = make("aaaa", "bbbb")
    machines["aaaa"].deadline, machines["bbbb"].deadline = 1.0, 2.0
    endpoint.touch("aaaa")
    endpoint.touch("bbbb")
    endpoint.pump()
    assert endpoint.poll_timeout() == 1.0
    endpoint.handle_timeout(1.5)
    assert (machines["aaaa"].woken, machines["bbbb"].woken) == ([1.5], [])
    assert endpoint.poll_timeout() == 2.0


def test_a_finished_session_is_forgotten_with_its_paths() -> None:
    endpoint, machines = make("aaaa")
    endpoint.handle_datagrams([(check("aaaa:x"), path(1))], 0.0)
    machines["aaaa"].finished = True
    endpoint.handle_datagrams([(MEDIA, path(1))], 0.1)
    assert len(endpoint) == 0
    endpoint.handle_datagrams([(MEDIA, path(1))], 0.2)
    assert endpoint.counters["endpoint.dropped_unknown_path"] == 1


def test_a_full_endpoint_says_so() -> None:
    endpoint: Endpoint[str] = Endpoint(max_sessions=1)
    endpoint.add("aaaa", Recorder("aaaa"), "aaaa")
    with pytest.raises(LocalError, match="full"):
        endpoint.add("bbbb", Recorder("bbbb"), "bbbb")
    with pytest.raises(LocalError, match="taken"):
        endpoint.add("aaaa", Recorder("aaaa"), "aaaa")


def test_an_empty_datagram_is_a_keepalive_and_hurts_no_session() -> None:
    endpoint, machines = make("aaaa", "bbbb")
    endpoint.handle_datagrams([(check("aaaa:x"), path(1)), (check("bbbb:x"), path(2))], 0.0)
    endpoint.handle_datagrams([(MEDIA, path(2)), (b"", path(1)), (b"", path(9)), (MEDIA, path(2))], 0.1)
    assert machines["aaaa"].received[1:] == [b""]
    assert machines["bbbb"].received[1:] == [MEDIA, MEDIA]
    assert len(endpoint.drain_transmits()) == 5
    assert not endpoint.drain_faults()


def test_what_a_machine_raises_costs_that_datagram_and_nothing_else() -> None:
    endpoint, machines = make("aaaa", "bbbb")
    endpoint.handle_datagrams([(check("aaaa:x"), path(1)), (check("bbbb:x"), path(2))], 0.0)
    endpoint.drain_transmits()
    batch = [(MEDIA, path(1)), (POISON, path(1)), (MEDIA, path(2)), (MEDIA, path(1)), (POISON, path(1))]
    endpoint.handle_datagrams(batch, 0.1)
    assert [len(machine.received) for machine in machines.values()] == [3, 2]
    assert len(endpoint.drain_transmits()) == 3, "it is pumped all the same"
    assert {ufrag for ufrag, _ in endpoint.drain_events()} == {"aaaa", "bbbb"}
    assert endpoint.counters["endpoint.fault_handle_datagrams"] == 2
    (fault,) = endpoint.drain_faults()
    assert str(fault.error) == "poisoned"
    endpoint.handle_datagrams(batch, 59.0)
    assert not endpoint.drain_faults(), "one a minute"
    endpoint.handle_datagrams(batch, 61.0)
    assert len(endpoint.drain_faults()) == 1


def test_one_that_always_raises_does_not_go_on_for_ever() -> None:
    class Broken(Recorder):
        def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: float) -> None:
            raise RuntimeError("whatever comes")

    endpoint: Endpoint[str] = Endpoint()
    endpoint.add("aaaa", Broken("aaaa"), "aaaa")
    endpoint.handle_datagrams([(check("aaaa:x"), path(1))] * 3, 0.0)
    assert endpoint.drain_faults()


def test_one_that_cannot_be_woken_keeps_no_other_asleep_and_does_not_spin() -> None:
    endpoint, machines = make("aaaa", "bbbb")
    for name, machine in machines.items():
        machine.deadline = 1.0
        endpoint.touch(name)
    machines["aaaa"].broken.add("handle_timeout")
    endpoint.pump()
    endpoint.handle_timeout(1.0)
    assert machines["bbbb"].woken == [1.0]
    assert endpoint.poll_timeout() == 1.0 + FAULT_PAUSE
    assert endpoint.counters["endpoint.fault_handle_timeout"] == 1
    machines["aaaa"].broken.clear()
    endpoint.handle_timeout(1.0 + FAULT_PAUSE)
    assert machines["aaaa"].woken == [1.0, 1.0 + FAULT_PAUSE]
    assert endpoint.poll_timeout() is None


def test_one_that_cannot_be_drained_does_not_keep_the_others_from_it() -> None:
    endpoint, machines = make("aaaa", "bbbb")
    machines["aaaa"].broken.add("drain_events")
    endpoint.handle_datagrams([(check("aaaa:x"), path(1)), (check("bbbb:x"), path(2))], 0.0)
    assert len(endpoint.drain_transmits()) == 2
    assert endpoint.drain_events() == [("bbbb", "bbbb:1")]
    assert endpoint.counters["endpoint.fault_drain"] == 1
    assert endpoint.poll_timeout() == FAULT_PAUSE, "and it is looked at again"


def test_a_session_that_cannot_be_made_costs_its_own_first_packet() -> None:
    def resolve(unknown: UnknownCheck, now: float) -> tuple[str, Recorder]:
        if unknown.username == "bad:x":
            raise RuntimeError("cannot be made")
        return "good", Recorder("good")

    endpoint: Endpoint[str] = Endpoint(resolve)
    endpoint.handle_datagrams([(check("bad:x"), path(1)), (check("good:x"), path(2))], 0.0)
    assert endpoint.drain_events() == [("good", "good:1")]
    assert endpoint.counters["endpoint.fault_find"] == 1


def test_a_machine_alone_is_survived_too() -> None:
    machine = Recorder("alone")
    single = SingleEndpoint("alone", machine)
    single.handle_datagrams([(MEDIA, path(1)), (POISON, path(1)), (MEDIA, path(1))], 0.0)
    assert machine.received == [MEDIA, MEDIA]
    machine.broken.add("handle_timeout")
    machine.deadline = 1.0
    single.handle_timeout(1.0)
    assert single.poll_timeout() == 1.0 + FAULT_PAUSE
    assert [fault.doing for fault in single.drain_faults()] == ["handle_datagrams", "handle_timeout"]


# --- sessions that ask, and peers that move ---


def rtp(source: int) -> bytes:
    return b"\x80\x6f\x00\x01" + bytes(4) + source.to_bytes(4, "big") + b"sound"


def rtcp(source: int) -> bytes:
    return b"\x80\xc9\x00\x01" + source.to_bytes(4, "big") + bytes(8)


def test_a_response_reaches_the_session_that_has_asked() -> None:
    endpoint, machines = make("aaaa", "bbbb")
    asked = Message(MessageClass.REQUEST, Method.BINDING, TransactionId(b"b" * 12))
    machines["bbbb"]._transmits.append(Transmit(asked.serialize(), path(9)))
    endpoint.touch("bbbb")
    endpoint.pump()
    endpoint.drain_transmits()
    # libnice names itself in a response
    response = asked.respond(MessageClass.SUCCESS_RESPONSE, Username("aaaa:x")).serialize()
    other = Message(MessageClass.SUCCESS_RESPONSE, Method.BINDING, TransactionId(b"x" * 12)).serialize()
    endpoint.handle_datagrams([(other, path(9)), (response, path(9))], 1.0)
    assert machines["bbbb"].received == [response]
    assert machines["aaaa"].received == []
    machines["bbbb"].finished = True
    endpoint.touch("bbbb")
    endpoint.pump()
    endpoint.handle_datagrams([(response, path(8))], 2.0)
    assert endpoint.counters["endpoint.dropped_unknown_path"] == 2


def test_what_is_asked_is_bounded() -> None:
    endpoint, machines = make("aaaa")
    for number in range(MAX_ASKED + 10):
        asked = Message(MessageClass.REQUEST, Method.BINDING, TransactionId(number.to_bytes(12, "big")))
        machines["aaaa"]._transmits.append(Transmit(asked.serialize(), path(9)))
    endpoint.touch("aaaa")
    endpoint.pump()
    assert len(endpoint._asked) == MAX_ASKED


def test_a_peer_is_known_by_its_ssrc_where_its_path_is_not() -> None:
    endpoint, machines = make("aaaa", "bbbb")
    endpoint.handle_datagrams([(check("aaaa:x"), path(1)), (check("bbbb:x"), path(2))], 0.0)
    machines["aaaa"].ssrcs, machines["bbbb"].ssrcs = (7,), (7, 8)
    endpoint.handle_datagrams([(rtp(7), path(1))], 0.1)
    endpoint.handle_datagrams([(rtp(8), path(2))], 0.2)
    for machine in machines.values():
        machine.received.clear()
    moved = [rtp(7), rtcp(7), rtp(8), rtp(9), b"\x80short", b"\x16" + bytes(20)]
    endpoint.handle_datagrams([(data, path(5)) for data in moved], 0.3)
    assert machines["aaaa"].received == moved[:2]  # the first that had it keeps it
    assert machines["bbbb"].received == moved[2:3]
    assert endpoint.counters["endpoint.found_by_source"] == 3
    assert endpoint.counters["endpoint.dropped_unknown_path"] == 3
    machines["aaaa"].finished = True
    endpoint.touch("aaaa")
    endpoint.pump()
    endpoint.handle_datagrams([(rtp(7), path(5))], 0.4)
    assert endpoint.counters["endpoint.dropped_unknown_path"] == 4


RECORD = b"\x17\xfe\xfd\x00\x01" + bytes(20)


def test_a_record_over_an_unknown_path_is_tried_with_those_without_media_at_its_host() -> None:
    names = [f"n{number:03}" for number in range(Routes.MAX_TRIED + 3)]
    endpoint, machines = make(*names, "media")
    for number, name in enumerate([*names, "media"]):
        machines[name].known_by_records = name != "media"
        endpoint.handle_datagrams([(check(f"{name}:x"), path(number + 1))], 0.0)
    machines["media"].ssrcs = (7,)
    endpoint.handle_datagrams([(RECORD, path(999))], 1.0)
    tried = [name for name, machine in machines.items() if RECORD in machine.received]
    assert tried == names[-Routes.MAX_TRIED :]  # the latest, so many and no more
    endpoint.handle_datagrams([(RECORD, Path(LOCAL, Address("192.0.2.8", 1)))], 1.0)
    assert endpoint.counters["endpoint.tried_by_host"] == 1
    for _ in range(MAX_TRIED + 10):
        endpoint.handle_datagrams([(RECORD, path(999))], 1.5)
    assert endpoint.counters["endpoint.tried_by_host"] == MAX_TRIED
    # one that is over is forgotten
    machines[names[-1]].finished = True
    endpoint.touch(names[-1])
    endpoint.pump()
    endpoint.handle_datagrams([(RECORD, path(999))], 9.0)
    assert machines[names[-1]].received.count(RECORD) == MAX_TRIED


def test_what_no_session_may_have_is_kept_for_other_processes() -> None:
    endpoint: Endpoint[str] = Endpoint(keeps_strays=True)
    known = [(MEDIA, path(1)), (RECORD, path(2)), (b"\x2f" + bytes(20), path(3))]
    others = [
        (b"\x16\xfe\xfd" + bytes(20), path(4)),
        (b"\x80", path(5)),
        (b"", path(6)),
        (check("zzzz:x"), path(7)),
    ]
    endpoint.handle_datagrams([*known, *others], 0.0)
    assert endpoint.drain_strays() == known
    assert endpoint.drain_strays() == ()
    endpoint.handle_datagrams([(MEDIA, path(1))] * (MAX_STRAYS + 5), 0.0)
    assert len(endpoint.drain_strays()) == MAX_STRAYS
