"""Tables that the modules of a package fill by themselves: a new wire object is one file, and no list names it.

A package imports its modules with `import_modules`; each of them puts its classes into a table with `add_once`, by
a decorator of the package's own. Looking up stays a plain `dict.get`.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pkgutil import iter_modules
from typing import TypeVar

from stack.core.errors import LocalError

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


def import_modules(package: str, path: Iterable[str]) -> None:
    """Import every module of a package: `import_modules(__name__, __path__)` in its `__init__`."""
    for module in iter_modules(path):
        import_module(f"{package}.{module.name}")


def add_once(table: dict[KeyT, ValueT], key: KeyT, value: ValueT) -> None:
    """Put `value` into `table`; `LocalError` if the key is taken already."""
    if key in table:
        raise LocalError(f"{key!r} is registered already, for {table[key]!r}")
    table[key] = value
