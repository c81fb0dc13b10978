"""The page of counters says what the code declares, and the code counts what it declares."""

from __future__ import annotations

import ast
from pathlib import Path

from stack.core.counters import GRAMMAR, OWNERS, declared_counters
from tools.counters import PAGE, load, page

ROOT = Path(__file__).parents[2] / "stack"
KINDS = ("dropped_", "ignored_", "fault_", "failed_", "ended_")
DECLARE = ("declare", "declare_each")


def trees() -> dict[str, ast.Module]:
    return {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8"))
        for path in sorted(ROOT.rglob("*.py"))
    }


def is_declaration(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in DECLARE


def constants() -> dict[str, str]:
    """Return the names at the top of a module whose value declares counters, with their files."""
    found = {}
    for file, tree in trees().items():
        for node in tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            value = getattr(node, "value", None)
            if value is not None and any(is_declaration(each) for each in ast.walk(value)):
                (target,) = targets
                assert isinstance(target, ast.Name), f"{file}:{node.lineno}"
                found[f"{file}:{target.id}"] = target.id
    return found


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text("utf-8") == page(), "run `make counters`"


def test_every_counter_is_in_the_grammar_and_every_owner_counts() -> None:
    load()
    declared = declared_counters().values()
    assert all(GRAMMAR.fullmatch(each.name) for each in declared)
    assert {each.owner for each in declared} == set(OWNERS)
    for each in declared:
        name = each.name.partition(".")[2]
        for kind in KINDS:
            assert f"_{kind}" not in name or name.startswith(KINDS), f"{each.name} names its kind, but not first"


def test_declarations_are_constants() -> None:
    """A declaration anywhere else could take its name from what was received."""
    declaring = sum(is_declaration(each) for tree in trees().values() for each in ast.walk(tree))
    at_the_top = sum(
        is_declaration(each)
        for file, tree in trees().items()
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        for each in ast.walk(node.value)
    )
    assert declaring - at_the_top == 1, "`declare_each` itself is the one that stands elsewhere"


def test_every_declared_counter_is_counted() -> None:
    """Each constant is used inside a function, which is where code counts."""
    used = set()
    for tree in trees().values():
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                        used.add(node.id)
                    elif isinstance(node, ast.Attribute):
                        used.add(node.attr)
    assert [where for where, name in constants().items() if name not in used] == []


def test_nothing_is_counted_under_a_name_that_is_not_declared() -> None:
    """`Counters.add` takes a `CounterName`, and only `declare` makes one; mypy checks the rest."""
    wrong = []
    for file, tree in trees().items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            if isinstance(node.func, ast.Name) and node.func.id == "CounterName" and file != "core/counters.py":
                wrong.append(f"{file}:{node.lineno} makes a name")
            if (
                isinstance(node.func, ast.Attribute)
                and node.func.attr in ("add", "note")
                and ast.unparse(node.func.value).endswith(("counters", "_faults", "faults", "total"))
                and isinstance(node.args[0], ast.Constant | ast.JoinedStr | ast.BinOp)
            ):
                wrong.append(f"{file}:{node.lineno} counts {ast.unparse(node.args[0])}")
    assert wrong == []
