"""The heap of deadlines against the obvious dictionary."""

from hypothesis import given
from hypothesis import strategies as st

from stack.server import Deadlines

KEYS = st.integers(0, 9)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, st.one_of(st.none(), st.integers(0, 50).map(float))),
        st.tuples(st.just("pop"), st.integers(0, 50).map(float), st.none()),
    ),
    max_size=300,
)


@given(STEPS)
def test_it_behaves_like_a_dictionary_sorted_by_time(steps) -> None:
    deadlines: Deadlines[int] = Deadlines()
    model: dict[int, float] = {}
    for kind, first, second in steps:
        if kind == "set":
            deadlines.set(first, second)
            if second is None:
                model.pop(first, None)
            else:
                model[first] = second
        else:
            due = deadlines.pop_due(first)
            expected = {key for key, at in model.items() if at <= first}
            assert set(due) == expected
            assert [model[key] for key in due] == sorted(model[key] for key in due)
            for key in expected:
                del model[key]
        assert deadlines.next == min(model.values(), default=None)
        assert len(deadlines) == len(model)


def test_a_deadline_that_moves_for_ever_does_not_grow_the_heap() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for step in range(10_000):
        deadlines.set("a", float(step))
    assert len(deadlines._heap) < 200
    assert deadlines.pop_due(1e9) == ["a"]
