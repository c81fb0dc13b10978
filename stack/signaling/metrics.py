"""The metrics of a server, for Prometheus: calls and why they ended, packets, and the delays that people notice.

One registry for each server, so that two in one process do not mix. Totals of packets and of named drops are read
from the media side at each scrape, and so is how late frames left; the other histograms fill from the
events of the calls. `docs/counters.md` explains the names of what is counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

from stack.aio import Call, Host
from stack.audio import Lateness
from stack.core.counters import declared_counters
from stack.core.errors import StackError
from stack.session import Connected, Ended
from stack.voice.events import ReplyHeld, ReplyStarted

CONTENT_TYPE = CONTENT_TYPE_LATEST
SETTLED = 3.0
"""Seconds after the connection at which every step of a set-up has been reached, if it ever is."""
_SETUP = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0)
_PATH = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
_RESPONSE = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
_STOP = (0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14, 0.16, 0.2, 0.25, 0.3, 0.5, 1.0)


class Metrics:
    """The numbers of one server."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._tasks: set[asyncio.Task[None]] = set()
        self.registry = CollectorRegistry()
        registry = self.registry
        self._started = Counter("voice_calls", "Calls that were accepted.", registry=registry)
        self._ended = Counter("voice_calls_ended", "Calls that are over.", ["reason"], registry=registry)
        self._active = Gauge("voice_calls_active", "Calls at this moment.", registry=registry)
        self._active.set_function(lambda: len(host.calls))
        where = Gauge(
            "voice_node_info", "Always 1; its labels say where this is.", ["node", "region"], registry=registry
        )
        where.labels(host.config.node, host.config.region).set(1)
        share = Gauge("voice_calls_share", "Calls, as a share of those that this server takes.", registry=registry)
        share.set_function(lambda: len(host.calls) / host.config.max_calls)
        self._packets = Gauge("voice_packets", "RTP packets since the start.", ["direction"], registry=registry)
        self._refused = Counter(
            "voice_requests_refused", "HTTP requests that were refused.", ["status"], registry=registry
        )
        self._setup = _histogram("voice_setup_seconds", "From the offer to the connection.", registry, _SETUP)
        self._steps = Histogram(
            "voice_setup_step_seconds",
            "From the offer's arrival to each step of the set-up, of calls that lasted some seconds.",
            ["step"],
            buckets=_SETUP,
            registry=registry,
        )
        self._path = Histogram(
            "voice_path_seconds",
            "Round trips of calls that lasted some seconds: between client and media, between media and program.",
            ["leg"],
            buckets=_PATH,
            registry=registry,
        )
        self._response = _histogram(
            "voice_response_seconds", "From the end of a turn to the reply.", registry, _RESPONSE
        )
        self._stop = _histogram(
            "voice_barge_in_seconds", "From the first speech over a reply to its last packet.", registry, _STOP
        )
        self._lateness = _LatenessCollector()
        registry.register(self._lateness)
        self._counters = _CountersCollector()
        registry.register(self._counters)

    def refused(self, status: int) -> None:
        """A request was refused."""
        self._refused.labels(str(status)).inc()

    def follow(self, call: Call, done: Callable[[], None]) -> None:
        """Measure a call; `done()` when it is over."""
        self._started.inc()
        task = asyncio.get_running_loop().create_task(self._follow(call, done), name=f"metrics of {call.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, call: Call, done: Callable[[], None]) -> None:
        settling = asyncio.get_running_loop().create_task(self._note_steps(call), name=f"set-up of {call.id}")
        try:
            async for event in call.watch():
                if isinstance(event, Connected):
                    self._setup.observe(max(event.steps.values(), default=0.0) / 1000.0)
                elif isinstance(event, ReplyStarted) and event.response_ms is not None:
                    self._response.observe(event.response_ms / 1000.0)
                elif isinstance(event, ReplyHeld):
                    self._stop.observe(event.stop_ms / 1000.0)
                elif isinstance(event, Ended):
                    self._ended.labels(event.reason.name.lower()).inc()
        finally:
            settling.cancel()
            done()

    async def _note_steps(self, call: Call) -> None:
        """Wait until the set-up is complete, and count its steps, and what the way costs."""
        with suppress(StackError):  # it ended before
            await call.wait_connected()
            await asyncio.sleep(SETTLED)
            report = await call.stats()
            for step in report.setup:
                self._steps.labels(step.name).observe(step.at_ms / 1000.0)
            while report.path.client is None:  # until the client has reported on what it hears
                await asyncio.sleep(SETTLED)
                report = await call.stats()
            for leg, seconds in (("client", report.path.client), ("program", report.path.program)):
                if seconds is not None:
                    self._path.labels(leg).observe(seconds)

    async def render(self) -> bytes:
        """Return the text that Prometheus reads."""
        tally = await self._host.tally()
        self._packets.labels("received").set(tally.totals.packets_received)
        self._packets.labels("sent").set(tally.totals.packets_sent)
        self._lateness.latest = tally.frame_lateness()
        self._counters.latest = tally.counters
        return generate_latest(self.registry)


class _CountersCollector:
    """Shows every declared counter, also those that are 0: a rate wants to see the step from nothing to one."""

    def __init__(self) -> None:
        self.latest: Mapping[str, int] = {}

    def collect(self) -> Iterable[CounterMetricFamily]:
        """Return one family with the counters' owners and names as labels."""
        text = "What the layers dropped or saw: docs/counters.md."
        family = CounterMetricFamily("voice_counters", text, labels=["owner", "name"])
        for counter in declared_counters():
            family.add_metric(counter.split("."), self.latest.get(counter, 0))
        yield family


class _LatenessCollector:
    """Shows the tally that the media side keeps of each frame: a frame costs nothing more for Prometheus."""

    def __init__(self) -> None:
        self.latest = Lateness()

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """Return the histogram, its buckets cumulative."""
        bounds = [*map(str, Lateness.BOUNDS), "+Inf"]
        buckets = list(zip(bounds, accumulate(self.latest.counts), strict=True))
        family = HistogramMetricFamily("voice_frame_lateness_seconds", "How late a frame left, against its time.")
        family.add_metric([], buckets, self.latest.total)
        yield family


def _histogram(name: str, text: str, registry: CollectorRegistry, buckets: Sequence[float]) -> Histogram:
    return Histogram(name, text, buckets=buckets, registry=registry)
