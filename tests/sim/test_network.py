"""The simulated network, tried with a small reliable protocol and with machines that break the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from typing import Any

import pytest

from interop.network_model import GilbertElliott, Jitter, NetworkModel
from stack.core.machine import Address, Instant, Path, Transmit
from stack.core.trace import PcapWriter
from tests.sim.network import ContractViolation, Host, Network
from tests.sim.pair import LEFT, RIGHT, MachinePair, TunnelPair

ELSEWHERE = Address("203.0.113.9", 4000)


class Courier:
    """Stop and wait: sends numbered messages one by one and again until each is acknowledged (a `Tunnel`)."""

    terminal_events = ()

    def __init__(self, timeout: float = 0.2) -> None:
        self.timeout = timeout
        self.queue: list[int] = []
        self.expected = 0
        self._deadline: Instant | None = None
        self._out: list[bytes] = []
        self._events: list[int] = []

    def send(self, count: int, now: Instant) -> None:
        self.queue += range(count)
        self._transmit(now)

    def _transmit(self, now: Instant) -> None:
        self._deadline = None
        if self.queue:
            self._out.append(b"D" + self.queue[0].to_bytes(2, "big"))
            self._deadline = now + self.timeout

    def handle_datagrams(self, batch: Iterable[bytes], now: Instant) -> None:
        for data in batch:
            self._take(data, now)

    def _take(self, data: bytes, now: Instant) -> None:
        number = int.from_bytes(data[1:], "big")
        if data[:1] == b"D":
            self._out.append(b"A" + data[1:])
            if number == self.expected:
                self.expected += 1
                self._events.append(number)
        elif self.queue and number == self.queue[0]:
            self.queue.pop(0)
            self._transmit(now)

    def handle_timeout(self, now: Instant) -> None:
        if self._deadline is not None and now >= self._deadline:
            self._transmit(now)

    def poll_timeout(self) -> Instant | None:
        return self._deadline

    def drain_transmits(self) -> Sequence[bytes]:
        out, self._out = self._out, []
        return out

    def drain_events(self) -> Sequence[int]:
        events, self._events = self._events, []
        return events


class Echo:
    """Sends everything back along the path that it came by (a `Machine`)."""

    terminal_events = ()

    def __init__(self) -> None:
        self.out: list[Transmit] = []
        self.events: list[Path] = []

    def say(self, data: bytes, path: Path) -> None:
        self.out.append(Transmit(data, path))

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: Instant) -> None:
        for data, path in batch:
            self.events.append(path)
            if data.startswith(b"?"):
                self.out.append(Transmit(b"!" + data[1:], path))

    def handle_timeout(self, now: Instant) -> None:
        pass

    def poll_timeout(self) -> Instant | None:
        return None

    def drain_transmits(self) -> Sequence[Transmit]:
        out, self.out = self.out, []
        return out

    def drain_events(self) -> Sequence[Path]:
        events, self.events = self.events, []
        return events


BAD = NetworkModel(
    loss=0.2,
    burst=GilbertElliott.from_mean(0.1, 3),
    delay=0.05,
    jitter=Jitter(0.02),
    reorder=0.1,
    duplicate=0.1,
)


def converse(seed: int, model: NetworkModel = BAD) -> tuple[list[int], list[float], float]:
    pair = TunnelPair(Courier(), Courier(), model, seed=seed)
    pair.command(pair.left, lambda tunnel, now: tunnel.send(50, now))
    assert pair.run(600, lambda: not pair.left.machine.tunnel.queue)
    return pair.right.events, pair.right.times, pair.now


class TestTime:
    def test_a_reliable_protocol_gets_through_in_order(self) -> None:
        events, times, _ = converse(seed=1)
        assert events == list(range(50))
        assert times == sorted(times)

    def test_the_same_seed_tells_the_same_story(self) -> None:
        assert converse(seed=2) == converse(seed=2)
        assert converse(seed=2)[1] != converse(seed=3)[1]

    def test_a_perfect_network_takes_its_delay_and_no_more(self) -> None:
        pair = TunnelPair(Courier(), Courier(), NetworkModel(delay=0.05), NetworkModel(delay=0.02))
        start = pair.now
        pair.command(pair.left, lambda tunnel, now: tunnel.send(2, now))
        assert pair.run(10, lambda: pair.right.events == [0, 1])
        assert pair.right.times == pytest.approx([start + 0.05, start + 0.12])
        assert pair.right.time_of(int) == pair.right.times[0]
        assert pair.right.seen(int) == [0, 1]

    def test_time_runs_out(self) -> None:
        pair = TunnelPair(Courier(), Courier(), NetworkModel(loss=1.0))
        start = pair.now
        pair.command(pair.left, lambda tunnel, now: tunnel.send(1, now))
        assert not pair.run(1.0, lambda: bool(pair.right.events))
        assert pair.now == start + 1.0
        assert len(pair.left.sent) == 5, "at 0, 0.2, 0.4, 0.6 and 0.8 seconds"
        assert pair.network.counters["lost"] == 5
        assert pair.network.statistics(pair.left, pair.right) == {"offered": 5, "lost": 5}
        with pytest.raises(LookupError):
            pair.right.time_of(int)

    def test_late_timers(self) -> None:
        pair = TunnelPair(Courier(), Courier(), NetworkModel(loss=1.0), lateness=0.3)
        pair.command(pair.left, lambda tunnel, now: tunnel.send(1, now))
        pair.run(0.9)
        assert len(pair.left.sent) == 2, "at 0 and 0.5 seconds"

    def test_a_network_that_changes(self) -> None:
        pair = TunnelPair(Courier(), Courier(), NetworkModel(loss=1.0))
        pair.network.after(1.05, lambda: pair.network.link(pair.left, pair.right, NetworkModel(delay=0.01)))
        start = pair.now
        pair.command(pair.left, lambda tunnel, now: tunnel.send(1, now))
        assert pair.run(10, lambda: bool(pair.right.events))
        assert pair.right.times == pytest.approx([start + 1.21]), "sent again at 1.2"

    def test_reacting_to_an_event(self) -> None:
        pair = TunnelPair(Courier(), Courier(), NetworkModel(delay=0.01))
        pair.right.react = lambda event, now: pair.right.machine.tunnel.send(1, now)
        pair.command(pair.left, lambda tunnel, now: tunnel.send(1, now))
        assert pair.run(1, lambda: bool(pair.left.events))


class TestAddresses:
    def test_paths_are_seen_from_each_side(self) -> None:
        pair = MachinePair(Echo(), Echo())
        pair.left.command(lambda machine, now: machine.say(b"?hello", Path(LEFT, RIGHT)))
        pair.run(1)
        assert pair.right.events == [Path(RIGHT, LEFT)]
        assert pair.left.events == [Path(LEFT, RIGHT)]

    def test_nat_rebinding(self) -> None:
        pair = MachinePair(Echo(), Echo())
        network = pair.network

        def ask() -> None:
            pair.left.command(lambda machine, now: machine.say(b"?", Path(LEFT, RIGHT)))

        first, second = ELSEWHERE, ELSEWHERE._replace(port=4001)
        network.rebind(LEFT, first)
        ask()
        network.after(1.0, lambda: network.rebind(LEFT, second))
        network.after(2.0, ask)
        for remote in (first, LEFT, second):
            at = lambda remote=remote: pair.right.command(  # noqa: E731
                lambda machine, now: machine.say(b".", Path(RIGHT, remote))
            )
            network.after(3.0, at)
        pair.run(5)
        assert [path.remote for path in pair.right.events] == [first, second]
        assert pair.left.events == [Path(LEFT, RIGHT)] * 3, "two answers, and what was sent to the second mapping"
        assert network.counters["unreachable"] == 2

    def test_what_is_under_way_to_an_old_mapping_is_lost(self) -> None:
        pair = MachinePair(Echo(), Echo(), NetworkModel(delay=0.1))
        pair.network.rebind(LEFT, ELSEWHERE)
        pair.left.command(lambda machine, now: machine.say(b"?", Path(LEFT, RIGHT)))
        pair.network.after(0.15, lambda: pair.network.rebind(LEFT, ELSEWHERE._replace(port=4001)))
        pair.run(1)
        assert pair.right.events
        assert not pair.left.events

    def test_many_hosts_and_several_addresses(self) -> None:
        network = Network(model=NetworkModel(delay=0.01))
        server = network.attach("server", Echo(), RIGHT, ELSEWHERE)
        clients = [network.attach(f"client {n}", Echo(), Address("192.0.2.1", n)) for n in range(1, 40)]
        for client in clients:
            path = Path(client.addresses[0], ELSEWHERE)
            client.command(lambda machine, now, path=path: machine.say(b"?", path))  # type: ignore[misc]
        network.run(1)
        assert {path.local for path in server.events} == {ELSEWHERE}
        assert all(len(client.events) == 1 for client in clients)

    def test_an_address_without_a_host(self) -> None:
        pair = MachinePair(Echo(), Echo(), NetworkModel(delay=0.1))
        pair.left.command(lambda machine, now: machine.say(b"?", Path(LEFT, ELSEWHERE)))
        pair.left.command(lambda machine, now: machine.say(b"?", Path(LEFT, RIGHT)))
        pair.network.after(0.05, lambda: pair.network.detach(pair.right))
        pair.run(1)
        assert pair.network.counters["unreachable"] == 2
        assert not pair.right.events

    def test_an_address_has_one_owner(self) -> None:
        network = Network()
        network.attach("one", Echo(), LEFT)
        with pytest.raises(ValueError, match="belongs to one"):
            network.attach("two", Echo(), LEFT)
        with pytest.raises(ValueError, match="already"):
            network.attach("one", Echo(), RIGHT)

    def test_a_capture_of_one_side(self) -> None:
        pair = MachinePair(Echo(), Echo())
        file = BytesIO()
        pair.left.trace = PcapWriter(file)
        pair.left.command(lambda machine, now: machine.say(b"?hello", Path(LEFT, RIGHT)))
        pair.run(1)
        assert file.getvalue().count(b"hello") == 2


class Forgetful(Courier):
    def poll_timeout(self) -> Instant | None:
        deadline, self._deadline = self._deadline, None
        return deadline


class Hasty(Courier):
    def handle_timeout(self, now: Instant) -> None:
        self._transmit(now)


class Sticky(Courier):
    def drain_transmits(self) -> Sequence[bytes]:
        return list(self._out)


class Restless(Courier):
    def handle_timeout(self, now: Instant) -> None:
        pass


class Drifting(Courier):
    def handle_timeout(self, now: Instant) -> None:
        if self._deadline is not None and now < self._deadline:
            self._deadline += self.timeout


class Undead(Courier):
    terminal_events = (int,)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (Forgetful, "poll_timeout changes"),
        (Hasty, "before its time"),
        (Sticky, "after draining"),
        (Restless, "time stands still"),
        (Drifting, "moves the deadline"),
        (Undead, "1 after 0"),
    ],
)
def test_who_breaks_the_contract_is_told(kind: Callable[[], Courier], complaint: str) -> None:
    pair = TunnelPair(kind(), Courier(), NetworkModel(delay=0.01, loss=0.5))

    def converse() -> None:
        pair.command(pair.left, lambda tunnel, now: tunnel.send(5, now))
        pair.run(0.005)
        pair.command(pair.left, lambda tunnel, now: tunnel.send(5, now))
        pair.command(pair.right, lambda tunnel, now: tunnel.send(5, now))
        pair.run(60)

    with pytest.raises(ContractViolation, match=complaint):
        converse()


def test_a_machine_keeps_to_its_own_addresses() -> None:
    pair: MachinePair[Any, Any] = MachinePair(Echo(), Echo())
    left: Host[Any] = pair.left
    with pytest.raises(ContractViolation, match="not its address"):
        left.command(lambda machine, now: machine.say(b"?", Path(ELSEWHERE, RIGHT)))


def test_a_filter_sees_every_datagram_and_may_change_or_keep_it() -> None:
    pair: MachinePair[Any, Any] = MachinePair(Echo(), Echo())
    seen: list[tuple[str, bytes]] = []

    def filter(sender: Host[Any], data: bytes, path: Path) -> bytes | None:
        seen.append((sender.name, data))
        return None if sender is pair.right else data + b" changed"

    pair.network.filter = filter
    pair.left.command(lambda machine, now: machine.say(b"?", Path(LEFT, RIGHT)))
    pair.run(1)
    assert seen == [("left", b"?"), ("right", b"! changed")]
    assert [sent.data for sent in pair.left.sent] == [b"?"]
    assert pair.network.counters["filtered"] == 1
    assert not pair.left.events
