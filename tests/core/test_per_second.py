"""So many in a second: of each kind, and none saved up."""

from stack.core.per_second import PerSecond


def test_so_many_are_allowed_in_a_second_and_as_many_in_the_next():
    bound = PerSecond(3)
    assert [bound.allows(10.0 + 0.1 * step) for step in range(6)] == [True, True, True, False, False, False]
    assert not bound.allows(10.99)
    assert [bound.allows(11.0) for _ in range(4)] == [True, True, True, False]


def test_a_long_silence_saves_nothing_up():
    bound = PerSecond(2)
    bound.allows(0.0)
    assert [bound.allows(100.0) for _ in range(3)] == [True, True, False]


def test_each_kind_has_its_own_bound():
    bound = PerSecond(1)
    assert [bound.allows(5.0, kind) for kind in ("a", "b", "a", None, "b")] == [True, True, False, True, False]
    assert bound.allows(6.0, "a")
