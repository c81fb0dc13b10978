"""Which session a path belongs to."""

from stack.core.machine import Address, Path
from stack.server import Routes

LOCAL = Address("127.0.0.1", 3478)


def path(port: int) -> Path:
    return Path(LOCAL, Address("127.0.0.1", port))


def test_a_path_belongs_to_the_session_that_proved_itself_there_last() -> None:
    routes = Routes()
    routes.add("old", "old")
    routes.add("new", "new")
    routes.bind("old", path(1))
    assert routes.find(path(1)) == "old"
    routes.bind("new", path(1))
    assert routes.find(path(1)) == "new"
    routes.remove("old")
    assert routes.find(path(1)) == "new"


def test_a_removed_session_leaves_no_path_behind() -> None:
    routes = Routes()
    routes.add("a", "a")
    for port in range(3):
        routes.bind("a", path(port))
    routes.remove("a")
    assert [routes.find(path(port)) for port in range(3)] == [None] * 3
    assert len(routes) == 0


def test_the_number_of_paths_is_bounded_and_the_oldest_goes() -> None:
    routes = Routes()
    routes.add("a", "a")
    for port in range(Routes.MAX_PATHS_PER_SESSION + 5):
        routes.bind("a", path(port))
    assert len(routes.paths("a")) == Routes.MAX_PATHS_PER_SESSION
    assert routes.find(path(4)) is None
    assert routes.find(path(5)) == "a"


def test_sources_are_bounded_and_go_with_their_session() -> None:
    routes = Routes()
    for name in ("a", "b"):
        routes.add(name, f"{name}{name}{name}{name}")
    assert not routes.has_sources("a")
    routes.bind_sources("a", [1, 2])
    routes.bind_sources("b", [2, 3])
    routes.bind_sources("a", range(10, 20))
    assert [routes.find_by_source(source) for source in (1, 2, 3, 10, 11, 12)] == ["a", "a", "b", "a", "a", None]
    assert routes.has_sources("a")
    routes.remove("a")
    assert [routes.find_by_source(source) for source in (1, 2, 3)] == [None, None, "b"]
