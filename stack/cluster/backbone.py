"""The connection to NATS (`nats-py`), which may be gone at any time: none of it raises for that, but `request`.

`is_up` is what the process has seen with its own eyes: it sends itself a message five times a second, so that a
machine that was cut off, whose TCP connection says nothing for minutes, does not take all the others for dead.
What is posted while it is down is dropped and counted; `ordered.py` brings back what must not be lost.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stack.core.counters import Counters, declare
from stack.core.errors import LocalError, StackError

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

log = logging.getLogger("stack.backbone")

ECHO_EVERY = 0.2
"""Seconds between two messages to ourselves."""
ECHO_PATIENCE = 0.6
"""Seconds without one of them after which the backbone counts as gone."""
MAX_POSTED = 20_000
"""Messages that wait to be handed to the connection."""
START_PATIENCE = 2.0
"""Seconds that a start waits for the engine, before it goes on without."""

DROPPED_DOWN = declare("backbone", "dropped_down", "Messages not sent because the backbone was gone")
DROPPED_FULL = declare("backbone", "dropped_full", "Messages not sent because too many waited")
FAULT_MESSAGE = declare(
    "backbone", "fault_message", "Exceptions survived while handling a message of the backbone"
)
WENT_DOWN = declare("backbone", "went_down", "How often the backbone was gone")

OnMessage = Callable[[str, bytes, str], None]
"""Gets subject, data, and the subject for the answer (or an empty text)."""


async def end_tasks(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait for their end, a few seconds at most.

    A cancellation may get lost in `asyncio.wait_for` when what it waits for is done at the same moment (Python
    3.11), so it is said again.
    """
    for _ in range(5):
        left = [task for task in tasks if not task.done()]
        if not left:
            return
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=0.5)


class BackboneError(StackError):
    """The backbone is gone, or no process at its other side answers."""


class NoListener(BackboneError):
    """The backbone says at once that no process listens there."""


@dataclass(frozen=True, slots=True)
class BackboneConfig:
    """Where NATS is. User, password or token stand in the URL, or `credentials` names a file of NATS's."""

    servers: tuple[str, ...] = field(repr=False)
    credentials: str | None = None


class Backbone:
    """One process's connection. Everything belongs to the loop that it was started on."""

    def __init__(self, config: BackboneConfig, name: str) -> None:
        self.name = name
        self.counters = Counters()
        self.up_since = 0.0
        """By the loop's clock; counts while `is_up`."""
        self._config = config
        self._client: Client | None = None
        self._echoed: float | None = None
        self._was_up = False
        self._echo = f"voice.echo.{secrets.token_hex(8)}"
        self._wanted: dict[str, tuple[str, OnMessage]] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._posted: deque[tuple[str, bytes]] = deque()
        self._wake = asyncio.Event()
        self._first_up = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._watchers: list[Callable[[bool], None]] = []

    @property
    def is_up(self) -> bool:
        """True if a message to ourselves came back just now."""
        return self._echoed is not None and self._now() - self._echoed < ECHO_PATIENCE

    @property
    def client(self) -> Client:
        """The connection itself; raises `BackboneError` if there has been none yet."""
        if self._client is None or not self._client.is_connected:
            raise BackboneError("there is no connection to NATS")
        return self._client

    def watch(self, tell: Callable[[bool], None]) -> None:
        """Have `tell` told when the backbone comes or goes."""
        self._watchers.append(tell)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def start(self) -> None:
        """Connect, and keep connecting; returns when it is up, or after `START_PATIENCE`.

        Raises `LocalError` if `nats-py` is not installed.
        """
        try:
            from nats.aio.client import Client
        except ImportError as error:
            raise LocalError("several machines need nats-py: pip install 'voice-stack[cluster]'") from error
        await self.subscribe(self._echo, self._on_echo)
        loop = asyncio.get_running_loop()
        for work in (self._connect(Client()), self._send_posted(), self._echo_always()):
            self._tasks.append(loop.create_task(work, name="backbone"))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._first_up.wait(), START_PATIENCE)

    async def stop(self) -> None:
        """Send what waits, and close the connection."""
        for _ in range(100):
            if not self._posted or not self.is_up:
                break
            await asyncio.sleep(0.005)
        await end_tasks(*self._tasks)
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):  # it is going either way
                await asyncio.wait_for(client.close(), 1.0)

    async def _connect(self, client: Client) -> None:
        config = self._config
        while True:
            try:
                await client.connect(
                    list(config.servers),
                    name=self.name,
                    connect_timeout=1,
                    reconnect_time_wait=0.2,  # type: ignore[arg-type]
                    max_reconnect_attempts=-1,
                    ping_interval=1,
                    max_outstanding_pings=2,
                    error_cb=self._on_error,
                    user_credentials=config.credentials,
                )
                break
            except Exception as error:  # whatever it is, the engine may be there later
                log.warning("NATS cannot be reached: %s", error)
                await asyncio.sleep(0.5)
        self._client = client
        for subject, (queue, on_message) in list(self._wanted.items()):
            await self._subscribe(subject, queue, on_message)

    async def _on_error(self, error: Exception) -> None:
        log.info("NATS: %s", error or type(error).__name__)

    # -- whether it is there ---------------------------------------------------------------------------------

    def _on_echo(self, subject: str, data: bytes, reply: str) -> None:
        self._echoed = self._now()
        self._note_state()

    async def _echo_always(self) -> None:
        while True:
            client = self._client
            if client is not None and client.is_connected:
                with suppress(Exception):
                    await client.publish(self._echo, b"")
            await asyncio.sleep(ECHO_EVERY)
            self._note_state()

    def _note_state(self) -> None:
        is_up = self.is_up
        if is_up == self._was_up:
            return
        self._was_up = is_up
        if is_up:
            self.up_since = self._now()
            self._first_up.set()
            log.info("the backbone is up")
        else:
            self.counters.add(WENT_DOWN)
            log.warning("the backbone is gone: calls that are up go on")
        for tell in self._watchers:
            tell(is_up)

    # -- messages --------------------------------------------------------------------------------------------

    def post(self, subject: str, data: bytes) -> None:
        """Have a message sent soon, in order."""
        client = self._client
        if client is None or not client.is_connected:
            self.counters.add(DROPPED_DOWN)
        elif len(self._posted) >= MAX_POSTED:
            self.counters.add(DROPPED_FULL)
        else:
            self._posted.append((subject, data))
            self._wake.set()

    def post_all(self, subject: str, frames: Sequence[bytes]) -> None:
        """Have several sent."""
        for frame in frames:
            self.post(subject, frame)

    async def _send_posted(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._posted:
                subject, data = self._posted.popleft()
                try:
                    await self.client.publish(subject, data)
                except Exception as error:  # it has just gone
                    self.counters.add(DROPPED_DOWN)
                    log.debug("not sent: %s", error)

    async def request(self, subject: str, data: bytes, timeout: float) -> bytes:
        """Ask, and return the first answer; raises `BackboneError`, and `NoListener` where no process can."""
        from nats import errors

        try:
            answer = await self.client.request(subject, data, timeout=timeout)
        except errors.NoRespondersError as error:
            raise NoListener("no process takes that") from error
        except (errors.Error, OSError, TimeoutError) as error:
            raise BackboneError(f"no answer: {error or type(error).__name__}") from error
        return bytes(answer.data)

    async def subscribe(self, subject: str, on_message: OnMessage, queue: str = "") -> None:
        """Have messages of a subject handed over, now or as soon as there is a connection."""
        self._wanted[subject] = queue, on_message
        if self._client is not None:
            await self._subscribe(subject, queue, on_message)

    async def _subscribe(self, subject: str, queue: str, on_message: OnMessage) -> None:
        client = self._client
        if client is None or subject in self._subscriptions:
            return

        async def handle(message: Msg) -> None:
            try:
                on_message(message.subject, bytes(message.data), message.reply)
            except Exception:  # a bug of ours costs this message
                self.counters.add(FAULT_MESSAGE)
                log.exception("a message of %s could not be handled", message.subject)

        try:
            self._subscriptions[subject] = await client.subscribe(subject, queue=queue, cb=handle)
        except Exception as error:  # of the connection; it is repeated with the next one
            log.warning("cannot subscribe to %s: %s", subject, error)

    async def unsubscribe(self, subject: str) -> None:
        """Take messages of a subject no more."""
        self._wanted.pop(subject, None)
        subscription = self._subscriptions.pop(subject, None)
        if subscription is not None:
            with suppress(Exception):  # a subscription of a connection that is gone
                await subscription.unsubscribe()
