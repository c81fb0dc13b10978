"""What the pages name exists: files, modules, classes and their members, make targets, benchmarks, links."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from stack.core.counters import declared_counters
from tools import counters

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BASES = [ROOT, ROOT / "stack", ROOT / "docs", *(path for path in (ROOT / "stack").iterdir() if path.is_dir())]
CODE = ("stack", "tests", "bench", "interop", "examples", "tools")
TO_BE_ADDED = re.compile(r"`(stack/[\w/]+\.py)`:\n\n```python")
"""Files that a page says to make."""
GONE = {"sdp/portable.py"}
"""Files that a decision says were removed."""
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def spans(page: Path) -> Iterator[str]:
    """Yield what a page sets as code inside its sentences."""
    prose = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    yield from re.findall(r"`([^`\n]+)`", prose)


@cache
def file_names() -> frozenset[str]:
    found: set[str] = set()
    for folder in CODE:
        for path in (ROOT / folder).rglob("*"):
            if "node_modules" not in path.parts:
                found.add(path.name)
    return frozenset(found)


@cache
def words() -> frozenset[str]:
    """Every word of the code, its settings and its page."""
    found: set[str] = set()
    for folder in CODE:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".js", ".html", ".css") and not {"node_modules", "docs"} & set(
                path.relative_to(ROOT).parts
            ):
                found |= set(re.findall(r"\w+", path.read_text("utf-8")))
    return frozenset(found)


@cache
def modules() -> dict[str, list[str]]:
    """The modules of `stack` by the last part of their names; those of extras that are absent are left out."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "stack").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.setdefault(name.rsplit(".", 1)[-1], []).append(name)
    return found


@cache
def classes() -> dict[str, list[str]]:
    """Where the classes of `stack` and of the simulated network are, by name."""
    found: dict[str, list[str]] = {}
    for path in (*(ROOT / "stack").rglob("*.py"), *(ROOT / "tests" / "sim").glob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        for each in re.findall(r"^class (\w+)", path.read_text("utf-8"), re.MULTILINE):
            found.setdefault(each, []).append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


@by_page
def test_files_exist(page: Path) -> None:
    to_be_added = set(TO_BE_ADDED.findall(page.read_text("utf-8")))
    missing = []
    for span in spans(page):
        for name in re.findall(
            r"(?<![\w/.:*-])([\w-]+(?:/[\w.-]+)*\.(?:py|md|js|html|toml|cfg|sdp))(?![\w/])", span
        ):
            known = any((base / name).exists() for base in BASES) or ("/" not in name and name in file_names())
            if not known and name not in to_be_added | GONE:
                missing.append(name)
        for name in re.findall(
            r"(?<![\w/.])((?:stack|tests|bench|interop|examples|docs|tools)/[\w/-]*)(?![\w./-])", span
        ):
            if not (ROOT / name).exists():
                missing.append(name)
    assert missing == []


@by_page
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def resolves(name: str) -> bool:
    """Return whether a dotted name of `stack` is a module, or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@by_page
def test_dotted_names_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    names = {name for name in re.findall(r"(?<![\w./-])stack(?:\.\w+)+", text) if not name.endswith(".py")}
    assert [name for name in sorted(names) if not resolves(name)] == []


@by_page
def test_members_exist(page: Path) -> None:
    """`Class.member` and `module.NAME`, where there is such a class or module."""
    missing = []
    for span in spans(page):
        for owner, member in re.findall(r"(?<![\w./])(\w+)\.([A-Za-z_]\w+)", span):
            if owner in classes() and owner[0].isupper():
                places = [f"{module}.{owner}" for module in classes()[owner]]
            elif (ROOT / "stack" / owner / "__init__.py").exists() and re.match("[A-Z]+[a-z]", member):
                places = [f"stack.{owner}"]
            elif member.isupper() and owner in modules():
                places = modules()[owner]
            else:
                continue
            if not any(resolves(f"{place}.{member}") or member in _fields(place) for place in places):
                missing.append(f"{owner}.{member}")
    assert missing == []


@cache
def _fields(place: str) -> frozenset[str]:
    """What the module of a class sets in its objects: fields that only `__init__` sets are no attributes of it."""
    path = ROOT / (place.rpartition(".")[0].replace(".", "/") + ".py")
    if not path.exists():
        return frozenset()
    return frozenset(re.findall(r"(?:self\.|^    )(\w+)(?=[:\s=])", path.read_text("utf-8"), re.MULTILINE))


@by_page
def test_classes_exist(page: Path) -> None:
    """A name in capitals and small letters is one of the code's, of its tests' or of its page's."""
    named = {name for span in spans(page) for name in re.findall(r"(?<![\w./-])[A-Z][a-z0-9]+(?:[A-Z]\w*)+", span)}
    to_be_added = set(re.findall(r"^class (\w+)", page.read_text("utf-8"), re.MULTILINE))
    allowed = {"TheChunk"}
    assert named - words() - to_be_added - allowed == set()


@by_page
def test_identifiers_exist(page: Path) -> None:
    """A word with an underscore inside is one of the code's, in any case, or the name of a file."""
    known = {word.lower() for word in words()} | {name.partition(".")[0] for name in file_names()}
    counters.load()
    known |= {name.partition(".")[2] for name in declared_counters()} | {
        each.family for each in declared_counters().values()
    }
    to_be_added = {Path(name).stem for name in TO_BE_ADDED.findall(page.read_text("utf-8"))}
    named = {
        name for span in spans(page) for name in re.findall(r"(?<![\w…/])[a-zA-Z]+(?:_[a-z0-9]+)+(?!\w)", span)
    }
    assert {name for name in named if name.lower() not in known} - to_be_added == set()


@by_page
def test_commands_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    asked = {name for span in spans(page) for name in re.findall(r"^make ([a-z-]+)", span)}
    assert asked <= targets
    benches = set(re.findall(r"python -m bench(?: |\.)([a-z_]+)", text))
    assert [name for name in sorted(benches) if not (ROOT / "bench" / f"{name}.py").exists()] == []


@pytest.mark.parametrize(
    ("check", "span"),
    [
        (test_files_exist, "voice/mouth.py"),
        (test_files_exist, "stack/nothing"),
        (test_dotted_names_exist, "stack.rtp.Nothing"),
        (test_members_exist, "RtpTransport.nothing"),
        (test_members_exist, "section.NOTHING"),
        (test_members_exist, "sdp.Nothing"),
        (test_classes_exist, "NoSuchClassName"),
        (test_identifiers_exist, "no_such_word"),
        (test_commands_exist, "make nothing"),
    ],
)
def test_what_is_missing_is_found(check: Callable[[Path], None], span: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"So `{span}`.\n", "utf-8")
    with pytest.raises(AssertionError):
        check(page)
