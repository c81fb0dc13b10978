"""Which media nodes there are: each says it of itself in a bucket of NATS's key-value store, every two seconds.

What was last known stays when the engine is gone: signaling goes on with it. While the engine is there, a node
that has said nothing for `RECORD_PATIENCE` is gone. The bucket may vanish with its server; it is made again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from stack.cluster.backbone import Backbone, end_tasks
from stack.cluster.messages import NODES, NodeRecord
from stack.cluster.ordered import DROPPED_MALFORMED
from stack.core.counters import declare
from stack.core.errors import ParseError, StackError

if TYPE_CHECKING:
    from nats.js.kv import KeyValue

log = logging.getLogger("stack.cluster")

BUCKET = "voice-nodes"
SAY_EVERY = 2.0
"""Seconds between two words of a node."""
RECORD_PATIENCE = 7.0
"""Seconds without a word after which a node is taken for gone, while the engine is there."""
WATCH_PATIENCE = 5.0
"""Seconds without a word of any node after which the store is watched anew: its watch may have gone with it."""
RECORD_TTL = 30.0
"""Seconds after which the store forgets what a node has said."""
MAX_NODES = 10_000
"""Nodes that are remembered."""
AGAIN_AFTER = 0.5
"""Seconds before the store is asked again that did not answer."""

FAILED_STORE = declare("backbone", "failed_store", "Questions to the key-value store that failed")


async def open_bucket(backbone: Backbone) -> KeyValue:
    """Return the bucket, made if it is not there. Raises what `nats-py` raises, and `BackboneError`."""
    from nats.js.errors import NotFoundError

    stream = backbone.client.jetstream(timeout=1.0)
    try:
        return await stream.key_value(BUCKET)
    except NotFoundError:
        return await stream.create_key_value(bucket=BUCKET, history=1, ttl=RECORD_TTL)


class NodeRegistration:
    """Says in the store what a node is: `describe` returns it."""

    def __init__(self, backbone: Backbone, describe: Callable[[], NodeRecord]) -> None:
        self._backbone = backbone
        self._describe = describe
        self._now = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Say it from now on."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="node registration")

    def say_now(self) -> None:
        """Something is another than before."""
        self._now.set()

    async def stop(self) -> None:
        """Take the node out of the store."""
        if self._task is not None:
            await end_tasks(self._task)
        with suppress(Exception):  # without an engine the record grows old by itself
            bucket = await asyncio.wait_for(open_bucket(self._backbone), 1.0)
            await asyncio.wait_for(bucket.delete(self._describe().name), 1.0)

    async def _run(self) -> None:
        bucket: KeyValue | None = None
        while True:
            wait = SAY_EVERY
            try:
                bucket = bucket or await open_bucket(self._backbone)
                record = self._describe()
                await bucket.put(record.name, NODES.encode(record))
            except Exception as error:  # the engine is gone, or has no JetStream
                bucket, wait = None, AGAIN_AFTER
                self._backbone.counters.add(FAILED_STORE)
                if self._backbone.is_up:
                    log.warning("the key-value store does not take our record: %s", error or type(error).__name__)
            self._now.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._now.wait(), wait)


class NodeBook:
    """The nodes that are known, and which of them gets the next call."""

    def __init__(self, backbone: Backbone, region: str = "") -> None:
        self.region = region
        self._backbone = backbone
        self._records: dict[str, tuple[NodeRecord, float]] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._heard = 0.0  # when the store said anything last
        backbone.watch(lambda is_up: self._changed.set())

    @property
    def nodes(self) -> Sequence[NodeRecord]:
        """Those that are there, as far as is known."""
        if not self._backbone.is_up:
            return [record for record, _ in self._records.values()]
        now = asyncio.get_running_loop().time()
        since = self._backbone.up_since
        return [record for record, heard in self._records.values() if now - max(heard, since) < RECORD_PATIENCE]

    def choose(self, but: str = "") -> NodeRecord | None:
        """Return the node for a call: the emptier of two, of our region while there is room; None if none has.

        Our region stands for the caller's: geo DNS or anycast has brought the request to the nearest of us.
        Without one all nodes are alike.

        `but` names one that is not wanted.
        """
        fit = [node for node in self.nodes if node.room > 0.0 and node.name != but]
        near = [node for node in fit if self.region and node.region == self.region]
        chosen = near or fit
        if not chosen:
            return None
        return max(random.sample(chosen, min(2, len(chosen))), key=lambda node: node.room)

    def note(self, record: NodeRecord) -> None:
        """A node has said what it is."""
        if record.name in self._records or len(self._records) < MAX_NODES:
            self._records[record.name] = record, asyncio.get_running_loop().time()

    def start(self) -> None:
        """Follow the store from now on."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="node book")

    async def stop(self) -> None:
        """Follow it no more."""
        if self._task is not None:
            await end_tasks(self._task)

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            try:
                watcher: Any = await (await open_bucket(self._backbone)).watchall()
            except Exception as error:
                self._backbone.counters.add(FAILED_STORE)
                log.debug("the key-value store cannot be read: %s", error)
                await asyncio.sleep(AGAIN_AFTER)
                continue
            reading = asyncio.get_running_loop().create_task(self._read(watcher))
            try:
                await self._until_silent()
            finally:
                await end_tasks(reading)
            with suppress(Exception):
                await watcher.stop()

    async def _until_silent(self) -> None:
        """Return when the engine has come or gone, or the watch says nothing: its bucket may be gone."""
        clock = asyncio.get_running_loop().time
        self._heard = clock()
        while (left := self._heard + WATCH_PATIENCE - clock()) > 0.0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)
                return

    async def _read(self, watcher: Any) -> None:
        try:
            async for entry in watcher:
                self._heard = asyncio.get_running_loop().time()
                if entry is None:  # all that was there has been told
                    continue
                if entry.value is None or entry.operation in ("DEL", "PURGE"):
                    self._records.pop(entry.key, None)
                    continue
                try:
                    self.note(NODES.decode(bytes(entry.value)))
                except ParseError as error:
                    self._backbone.counters.add(DROPPED_MALFORMED)
                    log.warning("the record of node %s cannot be read: %s", entry.key, error)
        except (StackError, OSError) as error:
            log.info("the store was lost: %s", error)
        except Exception:
            log.exception("the watch of the store failed")


__all__ = ["BUCKET", "NodeBook", "NodeRegistration", "open_bucket"]
