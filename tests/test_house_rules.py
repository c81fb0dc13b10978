"""Rules of the tests themselves: who may import whom, and that no test sleeps."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

ORDER = ("stack", "interop", "tests.sim", "bench", "tests")
"""Each imports only from itself and from those before it, also for type checking; other folders only the stack."""

LONGEST_SLEEP = 0.05
"""Seconds; a test that sleeps at least so long waits for nothing in particular."""


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def unit_of(name: str) -> str:
    """Return the part of the project that a module belongs to: the simulation apart from the tests that use it."""
    parts = name.split(".")
    is_simulation = parts[:2] == ["tests", "sim"] and not parts[-1].startswith("test_")
    return "tests.sim" if is_simulation else parts[0]


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield each name of a module that is imported, at the top or anywhere else."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def sleeps(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and argument of each call of a `sleep` that is not known to be short."""
    constants = {
        target.id: statement.value
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name != "sleep":
            continue
        value = node.args[0]
        if isinstance(value, ast.Name):
            value = constants.get(value.id, value)
        seconds = value.value if isinstance(value, ast.Constant) else None
        if not isinstance(seconds, int | float) or seconds >= LONGEST_SLEEP:
            yield node.lineno, ast.unparse(node.args[0])


@pytest.mark.parametrize("folder", ["stack", "interop", "bench", "tests", "examples", "tools"])
def test_folders_import_in_one_direction(folder: str) -> None:
    found = modules(folder)
    assert found
    wrong = []
    for path in found:
        unit = unit_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        allowed = ORDER[: ORDER.index(unit) + 1] if unit in ORDER else ("stack",)
        names = {name for name in imported(ast.parse(path.read_text())) if unit_of(name) in ORDER}
        wrong += [f"{path.relative_to(ROOT)} imports {name}" for name in names if unit_of(name) not in allowed]
    assert wrong == []


def test_no_test_sleeps() -> None:
    """What has to wait waits for a condition, for sound (`tests.listening`) or in virtual time."""
    wrong = []
    for path in modules("tests"):
        tree = ast.parse(path.read_text())
        if "VirtualLoop" in {
            alias.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for alias in n.names
        }:
            continue  # bench's event loop whose clock jumps
        wrong += [f"{path.relative_to(ROOT)}:{line}: sleep({seconds})" for line, seconds in sleeps(tree)]
    assert wrong == []


def test_a_sleep_is_found_however_it_is_spelled() -> None:
    tree = ast.parse("LONG = 0.05\nasyncio.sleep(1)\ntime.sleep(LONG)\nsleep(x)\nsleep(0.049)\nasyncio.sleep(0)\n")
    assert list(sleeps(tree)) == [(2, "1"), (3, "LONG"), (4, "x")]


def test_an_import_is_found_wherever_it_stands() -> None:
    tree = ast.parse(
        "import tests.sim\nif TYPE_CHECKING:\n    from bench import sound\ndef f():\n    import interop\n"
    )
    assert sorted(imported(tree)) == ["bench.sound", "interop", "tests.sim"]


def test_the_simulation_is_no_test() -> None:
    names = ("tests.sim.pair.LEFT", "tests.sim", "tests.sim.test_network", "tests.listening", "bench.sound")
    assert [unit_of(name) for name in names] == ["tests.sim", "tests.sim", "tests", "tests", "bench"]
