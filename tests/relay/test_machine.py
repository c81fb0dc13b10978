"""Where a relay sends what it gets, in virtual time."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from stack.core.errors import LocalError
from stack.core.machine import Address, Path
from stack.ice import Ufrag
from stack.relay import machine
from stack.relay.flow_file import FlowFile, StoredFlow, size_of
from stack.relay.machine import PortClosed, PortOpened, Relay, RelaySettings
from stack.stun import ErrorCode, Message, MessageClass, Method, TransactionId, Username, XorMappedAddress
from tests.sim.entropy import entropy

OURS = Address("203.0.113.1", 3478)
NODES = {"n1": Address("10.0.0.1", 3478), "n2": Address("10.0.0.2", 3478)}
CLIENT = Address("198.51.100.7", 50_000)
OTHER = Address("198.51.100.8", 50_000)
MEDIA = b"\x80" + bytes(60)
KEY = b"p" * 22
draw = entropy(21)


def check(node: str = "n1", worker: int = 0) -> bytes:
    """Return a check for a session of a node, signed with a password that the relay does not know."""
    ufrag = Ufrag.generate(draw, worker, node).serialize()
    message = Message(MessageClass.REQUEST, Method.BINDING, TransactionId(draw(12)), (Username(f"{ufrag}:abcd"),))
    return message.sign(KEY)


def success(request: bytes) -> bytes:
    answer = Message.parse(request).respond(MessageClass.SUCCESS_RESPONSE, XorMappedAddress(CLIENT))
    return answer.sign(KEY)


def refusal(request: bytes) -> bytes:
    return Message.parse(request).respond(MessageClass.ERROR_RESPONSE, ErrorCode(404)).sign(KEY)


class Bench:
    """A relay, its clock and its flow file."""

    def __init__(self, nodes: Mapping[str, Address] = NODES, max_flows: int = 8) -> None:
        self.now = 100.0
        self.settings = RelaySettings((OURS,), "10.0.0.9", 20_000, max_flows)
        self.buffer = bytearray(size_of(max_flows))
        self.nodes = nodes
        self.ports: dict[Address, Path] = {}
        self.start()

    def start(self) -> None:
        """Start a relay on the file that is there."""
        file = FlowFile(memoryview(self.buffer), self.settings.max_flows, self.settings.first_port)
        self.ports.clear()
        self.relay = Relay(self.settings, file, self.now)
        self.relay.set_nodes(self.nodes)
        self._follow()

    def _follow(self) -> None:
        for event in self.relay.drain_events():
            if isinstance(event, PortOpened):
                self.ports[event.path.local] = event.path
            elif isinstance(event, PortClosed):
                del self.ports[event.local]

    def _pass(self, data: bytes, path: Path) -> list[tuple[bytes, Path]]:
        self.relay.handle_datagrams([(data, path)], self.now)
        self._follow()
        return [(sent, by) for sent, by in self.relay.drain_transmits()]

    def up(self, data: bytes, client: Address = CLIENT) -> Path | None:
        """Send from a client; return the path on which it came to a node, if it did."""
        sent = self._pass(data, Path(OURS, client))
        if not sent:
            return None
        ((passed, path),) = sent
        assert passed == data
        assert self.ports[path.local] == path
        return path

    def down(self, data: bytes, path: Path) -> Address | None:
        """Send from a node on a path; return the client that got it, if one did."""
        sent = self._pass(data, path)
        if not sent:
            return None
        ((passed, outer),) = sent
        assert passed == data
        assert outer.local == OURS
        return outer.remote

    def call(self, node: str = "n1", client: Address = CLIENT) -> Path:
        """Let a client connect to a node; return the path between relay and node."""
        request = check(node)
        path = self.up(request, client)
        assert path is not None
        assert self.down(success(request), path) == client
        return path

    def wait(self, seconds: float) -> None:
        """Let time pass, and the machine have its timeouts."""
        end = self.now + seconds
        while (due := self.relay.poll_timeout()) is not None and due <= end:
            self.now = max(self.now, due)
            self.relay.handle_timeout(self.now)
            self._follow()
        self.now = end

    def counted(self, name: str) -> int:
        return self.relay.counters[f"relay.{name}"]


def test_a_check_goes_to_the_node_that_its_fragment_names_and_the_rest_follows_it() -> None:
    bench = Bench()
    path = bench.call("n2")
    assert path.remote == NODES["n2"]
    assert bench.up(MEDIA) == path
    assert bench.down(MEDIA, path) == CLIENT
    assert bench.up(b"") == path  # a keepalive without a byte (RFC 6263 §4.1)
    assert (bench.counted("forwarded_up"), bench.counted("forwarded_down")) == (3, 2)


def test_each_client_is_seen_at_a_port_of_its_own() -> None:
    bench = Bench()
    one, other = bench.call(client=CLIENT), bench.call(client=OTHER)
    assert one.remote == other.remote
    assert one.local != other.local
    assert bench.down(MEDIA, one) == CLIENT
    assert bench.down(MEDIA, other) == OTHER


def test_worker_digit_and_ticket_are_for_the_node() -> None:
    bench = Bench()
    assert bench.up(check("n1", worker=3)) == bench.up(check("n1", worker=0))
    ticket = Message(
        MessageClass.REQUEST,
        Method.BINDING,
        TransactionId(draw(12)),
        (Username(Ufrag(7, "A" * 124, "n2").serialize() + ":abcd"),),
    )
    path = bench.up(ticket.sign(KEY))
    assert path is not None
    assert path.remote == NODES["n2"]


@pytest.mark.parametrize("data", [MEDIA, b"\x16\xfe\xfd" + bytes(50), success(check()), b"\x00", bytes(20)])
def test_what_is_no_check_needs_a_flow_that_a_node_has_confirmed(data: bytes) -> None:
    bench = Bench()
    assert bench.up(data) is None
    assert bench.up(check()) is not None
    assert bench.up(data) is None
    assert bench.counted("dropped_no_flow") == 2
    assert bench.relay.flows == 0


@pytest.mark.parametrize("ufrag", ["abcd", "0nobody+0123456789ab", "0+0123456789ab", ""])
def test_a_fragment_that_names_no_known_node_makes_nothing(ufrag: str) -> None:
    bench = Bench()
    message = Message(MessageClass.REQUEST, Method.BINDING, TransactionId(draw(12)), (Username(f"{ufrag}:abcd"),))
    assert bench.up(message.sign(KEY)) is None
    assert bench.counted("dropped_no_node") == 1
    assert bench.relay.unproven == 0
    assert not bench.ports


def test_a_strangers_address_gets_no_more_than_was_sent_from_there() -> None:
    bench = Bench()
    request = check()
    path = bench.up(request)
    assert path is not None
    assert bench.down(refusal(request), path) == CLIENT  # an error is shorter than its request
    assert bench.down(MEDIA + bytes(1000), path) is None
    assert bench.counted("dropped_unproven") == 1
    bench.down(success(check()), path)  # of no check that went over this flow
    assert bench.relay.flows == 0


def test_a_check_with_a_strangers_address_moves_no_call() -> None:
    bench = Bench()
    path = bench.call("n1")
    forged = check("n2")
    beside = bench.up(forged)
    assert beside is not None
    assert beside.remote == NODES["n2"]
    assert bench.up(MEDIA) == path
    assert bench.down(refusal(forged), beside) == CLIENT
    assert bench.up(MEDIA) == path
    assert bench.relay.flows == 1


def test_a_client_that_another_node_confirms_goes_there_and_hears_both() -> None:
    bench = Bench()
    former = bench.call("n1")
    latter = bench.call("n2")
    assert bench.up(MEDIA) == latter
    assert bench.down(MEDIA, former) == CLIENT
    assert bench.down(MEDIA, latter) == CLIENT
    request = check("n1")  # and back: the latest that proved itself
    assert bench.up(request) == former
    assert bench.up(MEDIA) == latter
    bench.down(success(request), former)
    assert bench.up(MEDIA) == former


def test_a_relay_that_is_started_again_goes_on_before_it_knows_any_node() -> None:
    bench = Bench()
    path, other = bench.call("n1"), bench.call("n2", OTHER)
    unproven = bench.up(check("n1"), Address("198.51.100.9", 1))
    assert unproven is not None
    bench.wait(3.0)
    bench.nodes = {}
    bench.now += 0.2
    bench.start()
    assert bench.relay.flows == bench.counted("flow_restored") == 2
    assert set(bench.ports) == {path.local, other.local}
    assert bench.up(MEDIA) == path
    assert bench.down(MEDIA, other) == OTHER
    assert bench.up(check("n1")) == path
    assert bench.up(check("n1"), Address("198.51.100.9", 1)) is None


def test_flows_of_another_boot_or_port_or_address_are_not_restored() -> None:
    bench = Bench()
    bench.call()
    kept = bytes(bench.buffer)
    bench.now = 50.0  # the clock began anew
    bench.start()
    assert bench.relay.flows == 0
    bench.buffer[:] = kept
    bench.now = 100.0 + machine.FLOW_TIMEOUT + 1
    bench.start()
    assert bench.relay.flows == 0
    bench.buffer[:] = kept
    bench.now, bench.settings = 101.0, RelaySettings((OURS,), "10.0.0.9", 30_000, 8)
    bench.start()
    assert bench.relay.flows == 0
    bench.buffer[:] = kept
    bench.settings = RelaySettings((Address("203.0.113.2", 3478),), "10.0.0.9", 20_000, 8)
    bench.start()
    assert bench.relay.flows == 0


def test_a_flow_lives_while_its_client_is_heard() -> None:
    bench = Bench()
    path = bench.call()
    for _ in range(4):
        bench.wait(machine.FLOW_TIMEOUT / 2)
        assert bench.up(MEDIA) == path
    bench.start()  # the file knows when it was heard, within a second
    assert bench.relay.flows == 1
    bench.wait(machine.FLOW_TIMEOUT + 2 * machine.SWEEP_EVERY)
    assert bench.relay.flows == 0
    assert not bench.ports
    assert bench.relay.poll_timeout() is None
    assert bench.up(MEDIA) is None
    assert bench.counted("flow_expired") == 1
    bench.start()
    assert bench.relay.flows == 0


def test_an_unproven_flow_is_forgotten_soon() -> None:
    bench = Bench()
    bench.up(check())
    bench.wait(machine.UNPROVEN_TIMEOUT + 2 * machine.SWEEP_EVERY)
    assert bench.relay.unproven == 0
    assert not bench.ports


def test_a_flood_takes_no_flow_of_a_call_and_keeps_no_caller_out() -> None:
    bench = Bench(max_flows=8)
    paths = {client: bench.call(client=client) for client in (CLIENT, OTHER)}
    for number in range(200):
        assert bench.up(check(), Address("192.0.2.1", 1024 + number)) is not None
    assert bench.relay.flows == 2
    assert bench.relay.unproven == 6
    assert bench.counted("flow_displaced") == 194
    for client, path in paths.items():
        assert bench.up(MEDIA, client) == path
    assert bench.call(client=Address("198.51.100.77", 5)) in bench.ports.values()


def test_unproven_flows_are_bounded_for_each_host_and_altogether(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(max_flows=100)
    for number in range(machine.MAX_UNPROVEN_OF_HOST + 10):
        bench.up(check(), Address("192.0.2.1", 1024 + number))
    assert bench.relay.unproven == machine.MAX_UNPROVEN_OF_HOST
    monkeypatch.setattr(machine, "MAX_UNPROVEN", 40)
    for number in range(30):
        bench.up(check(), Address(f"192.0.2.{2 + number}", 1024))
    assert bench.relay.unproven == 40


def test_one_address_and_port_has_a_bounded_number_of_nodes() -> None:
    bench = Bench({f"n{number}": Address(f"10.0.0.{number}", 3478) for number in range(1, 9)}, max_flows=100)
    current = bench.call("n8")
    for number in range(1, 8):
        bench.up(check(f"n{number}"))
    assert bench.relay.unproven + bench.relay.flows == machine.MAX_NODES_OF_CLIENT
    assert bench.up(MEDIA) == current


def test_when_all_flows_are_proven_a_caller_waits() -> None:
    bench = Bench(max_flows=2)
    bench.call(client=CLIENT)
    bench.call(client=OTHER)
    assert bench.up(check(), Address("198.51.100.9", 1)) is None
    assert bench.counted("dropped_full") == 1


def test_a_port_that_cannot_be_had_costs_one_check() -> None:
    bench = Bench()
    path = bench.up(check())
    assert path is not None
    bench.relay.handle_port_failed(path.local)
    assert bench.relay.unproven == 0
    again = bench.call()
    assert again.local != path.local  # a slot that was just used comes last


def test_nodes_of_another_family_are_left_out() -> None:
    bench = Bench()
    bench.relay.set_nodes({"n1": Address("2001:db8::1", 3478)})
    assert bench.up(check("n1")) is None


def test_ipv6_clients_reach_nodes_by_ipv4() -> None:
    bench = Bench()
    ours, client = Address("2001:db8::9", 3478), Address("2001:db8::7", 4000)
    bench.settings = RelaySettings((OURS, ours), "10.0.0.9", 20_000, 8)
    bench.start()
    request = check()
    ((_, inner),) = bench._pass(request, Path(ours, client))
    bench._pass(success(request), inner)
    bench.start()
    ((_, outer),) = bench._pass(MEDIA, inner)
    assert outer == Path(ours, client)


def test_a_torn_flow_is_no_flow() -> None:
    bench = Bench()
    file = FlowFile(memoryview(bench.buffer), 8, 20_000)
    file.write(StoredFlow(3, CLIENT, OURS, NODES["n1"], 99.0))
    assert [flow.slot for flow in file.read()] == [3]
    bench.buffer[16 + 3 * 64] = 0  # as it is while the rest is being written
    bench.start()
    assert bench.relay.flows == 0


def test_ports_beyond_the_last_are_refused() -> None:
    with pytest.raises(LocalError, match="beyond 65535"):
        RelaySettings((OURS,), first_port=65_000, max_flows=1000).check()
