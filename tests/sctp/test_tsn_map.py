from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from stack.sctp.rx.tsn_map import MAX_DUPLICATES, TsnMap


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=120))
def test_it_is_a_set(steps):
    tsns, model = TsnMap(100), set(range(100))
    for forward, offset in steps:
        tsn = 100 + offset
        if forward and offset % 5 == 0:
            tsns.forward(tsn)
            model |= set(range(tsn + 1))
        else:
            assert tsns.has(tsn) is (tsn in model)
            if tsn not in model:
                assert tsns.has_room(tsn)
                tsns.add(tsn)
                model.add(tsn)
        cumulative = next(n for n in range(99, 300) if n + 1 not in model)
        assert tsns.cumulative == cumulative
        above = {n - cumulative for n in model if n > cumulative}
        gaps = tsns.gaps(1000)
        assert {n for start, end in gaps for n in range(start, end + 1)} == above
        assert all(a[1] + 1 < b[0] for a, b in pairwise(gaps)), "blocks do not touch"
        assert tsns.has_gaps is bool(above)
        assert tsns.highest == max(model)


def test_duplicates_are_noted_up_to_a_bound():
    tsns = TsnMap(0)
    for number in range(100):
        tsns.note_duplicate(number)
    assert tsns.duplicates == list(range(MAX_DUPLICATES))
