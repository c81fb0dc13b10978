"""A stream of a call: a bounded queue that one task at a time iterates over."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

from stack.core.counters import CounterName, Counters
from stack.core.errors import LocalError

ItemT = TypeVar("ItemT")


class Inbox(Generic[ItemT]):
    """A bounded queue that one task at a time iterates over; closing it ends the iteration after what waits.

    What has to go because `limit` items wait is counted in `counters` as `dropped`.
    """

    def __init__(self, limit: int, counters: Counters, dropped: CounterName) -> None:
        self._items: deque[ItemT] = deque()
        self._limit = limit
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self._counters = counters
        self._dropped = dropped

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: ItemT) -> None:
        """Append an item; the oldest goes when there are too many."""
        if len(self._items) >= self._limit:
            self._items.popleft()
            self._counters.add(self._dropped)
        self._items.append(item)
        self._wake()

    def close(self) -> None:
        """Let the iteration end."""
        self._closed = True
        self._wake()

    def clear(self) -> None:
        """Forget what waits."""
        self._items.clear()

    def __aiter__(self) -> AsyncIterator[ItemT]:
        return self

    async def __anext__(self) -> ItemT:
        while not self._items:
            if self._closed:
                await asyncio.sleep(0)  # who asks again and again must not keep the loop to itself
                raise StopAsyncIteration
            if self._waiter is not None:
                raise LocalError("two tasks iterate over the same stream of a call")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._items.popleft()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
