from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interop.network_model import (
    GilbertElliott,
    Jitter,
    JitterShape,
    Link,
    ModelError,
    NetworkModel,
    RateLimit,
    Stall,
    Trace,
    inversions,
    longest_run,
)

PROBABILITIES = st.floats(0, 1)
MODELS = st.builds(
    NetworkModel,
    loss=PROBABILITIES,
    burst=st.none() | st.builds(GilbertElliott, PROBABILITIES, PROBABILITIES, PROBABILITIES, PROBABILITIES),
    delay=st.floats(0, 1),
    jitter=st.none() | st.builds(Jitter, st.floats(0, 1), st.sampled_from(JitterShape)),
    jitter_reorders=st.booleans(),
    reorder=PROBABILITIES,
    duplicate=PROBABILITIES,
    stall=st.none() | st.builds(Stall, st.floats(0.01, 2), st.floats(0, 1)),
    rate=st.none() | st.builds(RateLimit, st.floats(1e4, 1e7), st.integers(0, 100_000)),
    trace=st.none() | st.builds(Trace, st.lists(st.none() | st.floats(0, 1), min_size=1).map(tuple)),
)


def play(model: NetworkModel, count: int = 2000, interval: float = 0.02, seed: int = 1) -> list[tuple[float, ...]]:
    link = Link(model, seed)
    return [tuple(at - n * interval for at in link.transit(100, n * interval)) for n in range(count)]


def arrival_order(model: NetworkModel, interval: float = 0.02) -> list[int]:
    delays = play(model, interval=interval)
    arrivals = [(n * interval + delay, n) for n, found in enumerate(delays) for delay in found]
    return [n for _, n in sorted(arrivals)]


class TestEffects:
    def test_a_perfect_network(self) -> None:
        assert set(play(NetworkModel())) == {(0.0,)}

    def test_loss(self) -> None:
        lost = [not found for found in play(NetworkModel(loss=0.1))]
        assert 0.07 < sum(lost) / len(lost) < 0.13
        assert longest_run(lost) < 6

    def test_loss_in_bursts(self) -> None:
        burst = GilbertElliott.from_mean(0.1, 8)
        assert burst.mean_loss == pytest.approx(0.1)
        lost = [not found for found in play(NetworkModel(burst=burst), count=20_000)]
        assert 0.08 < sum(lost) / len(lost) < 0.12
        runs = sum(1 for before, now in zip([False, *lost], lost, strict=False) if now and not before)
        assert 6.5 < sum(lost) / runs < 9.5, "the mean length of a burst"

    def test_uniform_jitter_keeps_the_order(self) -> None:
        model = NetworkModel(delay=0.05, jitter=Jitter(0.1))
        assert inversions(arrival_order(model)) == 0
        assert all(delay >= 0.05 for found in play(model) for delay in found)

    def test_jitter_that_reorders(self) -> None:
        model = NetworkModel(jitter=Jitter(0.1), jitter_reorders=True)
        assert inversions(arrival_order(model)) > 100
        assert all(0.0 <= delay <= 0.1 for found in play(model) for delay in found)

    def test_normal_jitter(self) -> None:
        model = NetworkModel(jitter=Jitter(0.01, JitterShape.NORMAL), jitter_reorders=True)
        delays = sorted(delay for found in play(model) for delay in found)
        assert 0.0055 < delays[len(delays) // 2] < 0.008, "the median of |N(0, 10 ms)| is 6.7 ms"

    def test_pareto_spikes_are_rare_and_long(self) -> None:
        jitter = Jitter(0.05, JitterShape.PARETO, shape=1.5, frequency=0.05)
        delays = [delay for found in play(NetworkModel(jitter=jitter, jitter_reorders=True)) for delay in found]
        spikes = [delay for delay in delays if delay > 0]
        assert 0.03 < len(spikes) / len(delays) < 0.07
        assert min(spikes) >= 0.05
        assert max(spikes) > 0.25

    def test_reordering(self) -> None:
        order = arrival_order(NetworkModel(reorder=0.05))
        assert sorted(order) == list(range(2000))
        assert 60 < inversions(order) < 140

    def test_duplication(self) -> None:
        found = play(NetworkModel(duplicate=0.1))
        assert 140 < sum(len(arrivals) == 2 for arrivals in found) < 260

    def test_duplicates_have_jitter_of_their_own_where_jitter_reorders(self) -> None:
        for jitter_reorders in (False, True):
            model = NetworkModel(duplicate=1.0, jitter=Jitter(0.02), jitter_reorders=jitter_reorders)
            found = play(model)
            assert all(0 <= first <= second <= 0.02 + 1e-9 for first, second in found) or not jitter_reorders
            assert sum(first < second for first, second in found) == (len(found) if jitter_reorders else 0)

    def test_stalls_let_go_at_once(self) -> None:
        model = NetworkModel(delay=0.01, stall=Stall(interval=2.0, duration=0.5))
        delays = [delay for (delay,) in play(model)]
        assert max(delays) == pytest.approx(0.5, abs=0.03)
        arrivals = [round(n * 0.02 + delay, 9) for n, delay in enumerate(delays)]
        assert len(arrivals) - len(set(arrivals)) > 200, "several at the same instant"
        assert arrivals == sorted(arrivals)

    def test_the_bottleneck_queues_and_then_drops(self) -> None:
        link = Link(NetworkModel(rate=RateLimit(rate=8 * 128 * 100, queue=1280)))  # a hundred of these per second
        arrivals = [link.transit(100, 0.0) for _ in range(20)]
        kept = [at for found in arrivals for at in found]
        assert kept == pytest.approx([0.01 * n for n in range(1, len(kept) + 1)])
        assert len(kept) == 11, "ten in the queue, one on the wire"
        assert link.statistics() == {"offered": 20, "delivered": 11, "queue_full": 9}
        assert link.transit(100, 10.0) == pytest.approx((10.01,)), "by then the queue is empty"

    def test_a_trace_is_played_and_repeated(self) -> None:
        model = NetworkModel(delay=0.1, trace=Trace((0.01, None, 0.03)))
        found = play(model, count=6)
        assert [len(arrivals) for arrivals in found] == [1, 0, 1, 1, 0, 1]
        assert [delay for arrivals in found for delay in arrivals] == pytest.approx([0.11, 0.13, 0.11, 0.13])

    def test_effects_do_not_disturb_each_other(self) -> None:
        """The same datagrams are lost, however much jitter there is."""
        calm, rough = (
            [bool(found) for found in play(NetworkModel(loss=0.3, jitter=jitter, duplicate=duplicate))]
            for jitter, duplicate in ((None, 0.0), (Jitter(0.2), 0.5))
        )
        assert calm == rough


class TestLink:
    @settings(max_examples=60)
    @given(MODELS, st.integers(), st.lists(st.tuples(st.integers(0, 1500), st.floats(0, 0.2)), max_size=60))
    def test_whatever_the_model(self, model: NetworkModel, seed: int, sent: list[tuple[int, float]]) -> None:
        first, second = Link(model, seed), Link(model, seed)
        now = 5.0
        for size, pause in sent:
            now += pause
            arrivals = first.transit(size, now)
            assert arrivals == second.transit(size, now), "the seed decides everything"
            assert all(at >= now for at in arrivals), "nothing arrives before it was sent"
            assert len(arrivals) <= 2
        tally = first.statistics()
        assert tally.get("offered", 0) == len(sent)
        assert tally.get("delivered", 0) <= len(sent)

    def test_seeds_differ(self) -> None:
        model = NetworkModel(loss=0.5)
        assert play(model, seed=1) != play(model, seed=2)


class TestTrace:
    def test_reading(self, tmp_path: Path) -> None:
        text = "sequence,delay_ms\n# a comment\n7,20.5\n\n8,lost\n10, 30\n"
        trace = Trace.parse(text)
        assert trace == Trace((0.0205, None, None, 0.03)), "9 is missing: it was lost"
        file = tmp_path / "trace.csv"
        file.write_text(text)
        assert Trace.load(file) == trace

    @pytest.mark.parametrize(
        "text", ["", "sequence,delay_ms\n", "1\n", "x,1\n", "1,soon\n", "1,-5\n", "1,nan\n", "0,1\n9999999,1\n"]
    )
    def test_refused(self, text: str) -> None:
        with pytest.raises(ModelError):
            Trace.parse(text)


@pytest.mark.parametrize(
    "make",
    [
        lambda: NetworkModel(loss=1.1),
        lambda: NetworkModel(duplicate=-0.1),
        lambda: NetworkModel(delay=float("nan")),
        lambda: NetworkModel(delay=61.0),
        lambda: Jitter(-1.0),
        lambda: Jitter(1.0, shape=0.0),
        lambda: Stall(0.0, 1.0),
        lambda: RateLimit(0.0),
        lambda: GilbertElliott(0.1, 2.0),
        lambda: GilbertElliott.from_mean(0.1, 0.5),
        lambda: GilbertElliott.from_mean(0.9, 1.5),
        lambda: Trace(()),
    ],
)
def test_models_that_make_no_sense(make: object) -> None:
    with pytest.raises(ModelError):
        make()  # type: ignore[operator]
