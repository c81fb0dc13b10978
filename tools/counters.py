"""Write `docs/counters.md` from the declarations in the code: `python -m tools.counters`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from itertools import groupby
from pathlib import Path

from stack.core.counters import OWNERS, CounterDeclaration, declared_counters

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "counters.md"

_HEAD = """# Counters

Written by `make counters` from the declarations in the code, which stand beside what counts them; a test compares
the two. `stack/core/counters.py` has the grammar: `<owner>.<name>`, and the first word of a name tells its kind.

| First word | Kind |
|---|---|
| `dropped_` | something received, or to be sent, was thrown away |
| `ignored_` | part of something that was taken could not be read and was passed over |
| `fault_` | an exception of ours that the code around it survived; the log has it |
| `failed_`, `ended_` | an end, and its reason |
| any other | something happened, and nothing was lost by it |

`(await call.stats()).counters` has those of a call, by the whole name and without those that are 0. `/metrics` has
all of them as `voice_counters_total{owner="…",name="…"}`, summed over all calls since the start; drops are
`{name=~"dropped_.*"}`. A recording's are also in its last line, and reach `/metrics` when it ends.
"""


def load() -> None:
    """Import every module that declares a counter."""
    for path in sorted((ROOT / "stack").rglob("*.py")):
        if "declare" in path.read_text("utf-8"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            import_module(".".join(parts))


def rows(counters: Iterable[CounterDeclaration]) -> Iterator[str]:
    """Yield the lines of a table; a family that was declared together is one line."""
    for family, group in groupby(counters, lambda each: each.family or each.name):
        members = list(group)
        if len(members) == 1:
            yield f"| `{members[0].name}` | {members[0].meaning} |"
            continue
        owner = members[0].owner
        endings = ", ".join(f"`{each.name.removeprefix(f'{owner}.{family}_')}`" for each in members)
        shared = members[0].meaning.rpartition(": ")[0]
        yield f"| `{owner}.{family}_…` | {shared}, by {endings} |"


def page() -> str:
    """Return the whole page."""
    load()
    parts = [_HEAD]
    for owner, what in OWNERS.items():
        counters = [each for each in declared_counters().values() if each.owner == owner]
        counters.sort(key=lambda each: (f"{owner}.{each.family}" if each.family else each.name, each.name))
        table = "\n".join(["| Counter | What it counts |", "|---|---|", *rows(counters)])
        parts.append(f"## {owner}\n\n{what[0].upper()}{what[1:]}.\n\n{table}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
