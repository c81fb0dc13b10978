"""One port, many sessions: who gets which datagram, and who is woken when."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from stack.core.errors import LocalError
from stack.core.machine import Address, Path, Transmit
from stack.server import Endpoint
from stack.stun import Message, MessageClass, Method, Username

LOCAL = Address("127.0.0.1", 3478)
MEDIA = bytes([0x80, 111]) + bytes(20)


def path(port: int) -> Path:
    return Path(LOCAL, Address("192.0.2.7", port))


def check(username: str) -> bytes:
    return Message(MessageClass.REQUEST, Method.BINDING, bytes(12), (Username(username),)).serialize()


class Recorder:
    """A machine that proves a path when it hears `prove` in the username, and echoes what it gets."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.received: list[bytes] = []
        self.batches = 0
        self.woken: list[float] = []
        self.deadline: float | None = None
        self.finished = False
        self._routes: list[Path] = []
        self._transmits: list[Transmit] = []

    def handle_datagram(self, data: bytes, path: Path, now: float) -> None:
        self.received.append(data)
        self._transmits.append(Transmit(data, path))
        if data[0] < 4:
            self._routes.append(path)

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: float) -> None:
        self.batches += 1
        for data, path in batch:
            self.handle_datagram(data, path, now)

    def handle_timeout(self, now: float) -> None:
        self.woken.append(now)
        self.deadline = None

    def poll_timeout(self) -> float | None:
        return self.deadline

    def drain_transmits(self):
        out, self._transmits = self._transmits, []
        return out

    def drain_events(self):
        return [f"{self.name}:{len(self.received)}"]

    def drain_routes(self):
        out, self._routes = self._routes, []
        return out

    @property
    def is_finished(self) -> bool:
        return self.finished


def make(*names: str) -> tuple[Endpoint[str], dict[str, Recorder]]:
    endpoint: Endpoint[str] = Endpoint()
    machines = {name: Recorder(name) for name in names}
    for name, machine in machines.items():
        endpoint.add(name, machine)
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
    assert endpoint.counters["dropped_unknown_path"] == 3


def test_an_unknown_ufrag_is_counted_and_dropped() -> None:
    endpoint, _ = make("aaaa")
    endpoint.handle_datagrams([(check("zzzz:x"), path(1))], 0.0)
    assert endpoint.counters["dropped_unknown_ufrag"] == 1


def test_the_same_port_can_be_taken_over_by_a_new_call() -> None:
    endpoint, machines = make("aaaa", "bbbb")
    endpoint.handle_datagrams([(check("aaaa:x"), path(1)), (check("bbbb:x"), path(1)), (MEDIA, path(1))], 0.0)
    assert machines["bbbb"].received[-1] == MEDIA


def test_a_session_can_be_made_by_its_first_packet() -> None:
    made: list[str] = []

    def resolve(ufrag: str, now: float) -> Recorder | None:
        made.append(ufrag)
        return Recorder(ufrag) if ufrag == "known" else None

    endpoint: Endpoint[str] = Endpoint(resolve)
    endpoint.handle_datagrams([(check("known:x"), path(1)), (check("other:x"), path(2)), (MEDIA, path(1))], 0.0)
    assert made == ["known", "other"]
    assert len(endpoint) == 1
    assert endpoint.drain_events()[-1] == ("known", "known:2")


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
    assert endpoint.counters["dropped_unknown_path"] == 1


def test_a_full_endpoint_says_so() -> None:
    endpoint: Endpoint[str] = Endpoint(max_sessions=1)
    endpoint.add("aaaa", Recorder("aaaa"))
    with pytest.raises(LocalError, match="full"):
        endpoint.add("bbbb", Recorder("bbbb"))
    with pytest.raises(LocalError, match="taken"):
        endpoint.add("aaaa", Recorder("aaaa"))
