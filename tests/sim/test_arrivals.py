"""Both ways to arrive carry the same datagrams in the same order, and the batches are batches."""

from __future__ import annotations

from collections.abc import Iterable

from interop.network_model import Jitter, NetworkModel
from stack.core.machine import Path
from tests.sim.arrivals import WINDOWS, Arrivals, in_batches
from tests.sim.network import Network
from tests.sim.pair import LEFT, RIGHT
from tests.sim.test_network import Echo


class Counting(Echo):
    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[bytes]] = []

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: float) -> None:
        batch = list(batch)
        self.batches.append([data for data, _ in batch])
        super().handle_datagrams(batch, now)


def carried(together: bool, seed: int) -> tuple[list[list[bytes]], list[float]]:
    with in_batches(together):
        network = Network(seed, NetworkModel(delay=0.05, jitter=Jitter(0.002), loss=0.1))
    left, right = network.attach("left", Echo(), LEFT), network.attach("right", Counting(), RIGHT)
    for number in range(300):
        data = number.to_bytes(2, "big")
        network.after(
            number // 3 * 0.01,
            lambda data=data: left.command(lambda machine, now: machine.say(data, Path(LEFT, RIGHT))),
        )
    network.run(60)
    return right.machine.batches, right.times


def test_both_ways_carry_the_same() -> None:
    for seed in range(5):
        (single, single_times), (batches, batch_times) = carried(False, seed), carried(True, seed)
        assert all(len(batch) == 1 for batch in single)
        assert max(map(len, batches)) > 3
        assert [data for batch in single for data in batch] == [data for batch in batches for data in batch]
        lateness = [late - at for at, late in zip(single_times, batch_times, strict=True)]
        assert min(lateness) >= 0
        assert max(lateness) <= max(WINDOWS) + 1e-6
        assert carried(True, seed) == (batches, batch_times)


def test_what_is_read_together_belongs_to_one_receiver() -> None:
    elsewhere = RIGHT._replace(port=2001)
    with in_batches(True):
        network = Network(3, NetworkModel(delay=0.05))
    left = network.attach("left", Echo(), LEFT)
    one, other = network.attach("one", Counting(), RIGHT), network.attach("other", Counting(), elsewhere)

    def say_eight(machine: Echo, now: float) -> None:
        for number in range(8):
            machine.say(bytes((number,)), Path(LEFT, RIGHT if number < 4 else elsewhere))

    for turn in range(50):
        network.after(turn, lambda: left.command(say_eight))
    network.run(60)
    for host, numbers in ((one, range(4)), (other, range(4, 8))):
        assert {data[0] for batch in host.machine.batches for data in batch} == set(numbers)
        assert {len(batch) for batch in host.machine.batches} == {1, 2, 3, 4}


def test_how_a_reading_is_cut() -> None:
    with in_batches(True):
        arrivals = Arrivals("together")
    assert {len(batch) for _ in range(50) for batch in arrivals.cut(range(5))} == {1, 2, 3, 4, 5}
    assert [list(batch) for batch in Arrivals("alone").cut(range(3))] == [[0], [1], [2]]
