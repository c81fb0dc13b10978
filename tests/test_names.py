"""Names and imports of the whole repository: one class name for one class, no banned word, no import circle."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

BANNED = re.compile(
    r"\b(whoever|nobody|somebody|anybody|anyone|someone|mouths?|ears?|doors?|the floor|talkers?)\b", re.IGNORECASE
)
"""Words that do not say who acts, and metaphors for what the field has a name for."""


def sources() -> list[Path]:
    return sorted((ROOT / "stack").rglob("*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# -- one name, one class ---------------------------------------------------------------------------------------


def public_classes() -> dict[str, list[str]]:
    """Return where each public class name is defined, at the top level of a module."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sources():
        for node in parsed(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(module_name(path))
    return found


def test_no_two_public_classes_share_a_name() -> None:
    shared = {name: where for name, where in public_classes().items() if len(where) > 1}
    assert shared == {}


# -- words -----------------------------------------------------------------------------------------------------


def prose_of_python(text: str) -> Iterator[tuple[int, str]]:
    """Yield comments, docstrings and names, with their lines; not what a program says."""
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield node.lineno, node.value.value
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
        elif token.type == tokenize.NAME:
            yield token.start[0], re.sub(r"(?<=[a-z])(?=[A-Z])", " ", token.string).replace("_", " ")


def prose(path: Path) -> Iterable[tuple[int, str]]:
    text = path.read_text("utf-8")
    return prose_of_python(text) if path.suffix == ".py" else enumerate(text.splitlines(), 1)


def written() -> list[Path]:
    """Return what is read for banned words: the code and its pages, docs, examples, tools."""
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    for folder in ("stack", "docs", "examples", "interop", "bench", "tools"):
        for suffix in ("*.py", "*.md", "*.js", "*.html", "*.css"):
            files += (ROOT / folder).rglob(suffix)
    return sorted(path for path in files if "node_modules" not in path.parts)


def banned_in(path: Path) -> list[str]:
    where = path.relative_to(ROOT)
    return [f"{where}:{line}: {match[0]}" for line, text in prose(path) for match in BANNED.finditer(text)]


def test_sentences_say_who_acts() -> None:
    found: list[str] = []
    for path in written():
        found += banned_in(path)
    assert found == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("# whoever asks\n", 1),
        ("def f():\n    '''Nobody calls it.'''\n", 1),
        ("class Mouth: ...\n", 1),
        ("_open_door = 1\n", 1),
        ("x = 'Nobody knows.'\n", 0),
        ("years = [early]  # a noise floor, heard\n", 0),
    ],
)
def test_the_words_are_found(text: str, count: int) -> None:
    assert sum(len(BANNED.findall(part)) for _, part in prose_of_python(text)) == count


# -- imports ---------------------------------------------------------------------------------------------------


def imported(path: Path, modules: set[str]) -> set[str]:
    """Return what a module imports from `stack`, under TYPE_CHECKING and in functions, too."""
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:  # a module of the package, or something that its `__init__` has
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in modules else node.module)
    return found & modules


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the modules that import each other or themselves: strongly connected components (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            circle = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(circle) > 1 or node in graph[node]:
                found.append(sorted(circle))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def test_no_import_circle() -> None:
    modules = {module_name(path) for path in sources()}
    graph = {module_name(path): imported(path, modules) for path in sources()}
    assert sum(map(len, graph.values())) > len(graph), "hardly any import was read"
    assert circles(graph) == []


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}}) == [["b", "c"], ["d"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


# -- the glossary ----------------------------------------------------------------------------------------------


def test_the_glossary_names_what_there_is() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    files = re.findall(r"`([a-z0-9_]+(?:/[a-z0-9_-]+)+\.(?:py|md))`", text)
    assert len(files) > 40
    assert [name for name in files if not any((ROOT / at / name).exists() for at in ("stack", "docs"))] == []
    classes = {name for name in re.findall(r"`([A-Z]\w+)`", text) if name != "DATA"}
    assert classes - public_classes().keys() == set()


# -- what a package offers, it has -----------------------------------------------------------------------------


def test_every_name_that_a_package_offers_is_there() -> None:
    """`from stack.ice import *` fails for one that was moved away."""
    missing = []
    for path in sources():
        tree = parsed(path)
        bound = {
            name.asname or name.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom | ast.Import)
            for name in node.names
        }
        bound |= {
            node.name
            for node in tree.body
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        }
        bound |= {
            node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        for node in tree.body:
            if not isinstance(node, ast.Assign) or not any(
                isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
            ):
                continue
            offered = [each.value for each in ast.walk(node.value) if isinstance(each, ast.Constant)]
            missing += [f"{module_name(path)}: {name}" for name in offered if name not in bound]
    assert missing == []
