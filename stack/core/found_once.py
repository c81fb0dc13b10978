"""A property that is worked out once and then kept: `functools.cached_property` without its lock.

Python 3.11 takes a reentrant lock for each first look, which costs more than most of what is found so in a
description. Here two threads may work out the same thing at once, and keep equal results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar, overload

ObjectT = TypeVar("ObjectT")
ValueT = TypeVar("ValueT")


class found_once(Generic[ObjectT, ValueT]):
    """A method without arguments as an attribute, kept in the object's `__dict__`."""

    def __init__(self, find: Callable[[ObjectT], ValueT]) -> None:
        self._find = find
        self._name = find.__name__
        self.__doc__ = find.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> found_once[ObjectT, ValueT]: ...

    @overload
    def __get__(self, instance: ObjectT, owner: type) -> ValueT: ...

    def __get__(self, instance: ObjectT | None, owner: type) -> ValueT | found_once[ObjectT, ValueT]:
        if instance is None:
            return self
        value = instance.__dict__[self._name] = self._find(instance)
        return value
