"""What a caller hears when a part of a cluster dies, drains or is cut off, from Chromium, and for how long.

`pytest -s -m slow tests/cluster/test_cluster.py` prints the table of docs/scale.md. Every part is a process of its
own in a network namespace of its own (`interop/cluster.py`). Silence is what the page's own meter shows, which
reads each 40 ms; a browser without our page is asked when its connection has failed. The microphone is silent: the
beeps of Chromium's own are speech to the detector at times, for which the program is held for 0.7 s and more.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from interop import cluster as clusters
from interop.browsers import Browser, launch, loopback_namespace
from interop.cluster import Cluster, ClusterConfig
from interop.namespaces import wait_for
from stack.audio import write_wav

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.real_clock,
    pytest.mark.xdist_group("browsers"),
]

PROGRAM = "tests.cluster.programs:report"
HEARD = "(voiceStack.levels.program ?? -100) > -60"
MICROPHONE_RATE = 48_000
PATIENCE = 60
SETTLE = 2000
"""Milliseconds of sound before an event, and after it."""
LOOPBACK_PAIR = 17_000
"""Milliseconds after which Chromium has given up the pair from 127.0.0.1, which our switches let it make and which
reaches nothing: a connection has failed only when its last pair has."""
WATCH = """(() => {
  window.longest = 0;
  if (window.held === undefined) {
    window.held = 0;
    voiceStack.on("reply_held", () => { window.held += 1; });
  }
  let last = performance.now();
  clearInterval(window.watching);
  window.watching = setInterval(() => {
    const now = performance.now();
    if ((voiceStack.levels.program ?? -100) > -60) last = now;
    window.longest = Math.max(window.longest, now - last);
  }, 10);
  return true;
})()"""
NODE = r"/^a=ice-ufrag:.([A-Za-z0-9]*)\+/m.exec(voiceStack.connection.remoteDescription.sdp)[1]"
PLAIN = """(async () => {
  window.states = [];
  const pc = window.pc = new RTCPeerConnection();
  // iceConnectionState stays "disconnected" where that was said before the last pair failed.
  pc.onconnectionstatechange = () => window.states.push([pc.connectionState, performance.now()]);
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  pc.addTrack(stream.getAudioTracks()[0], stream);
  pc.createDataChannel("events", { negotiated: true, id: 0 });
  await pc.setLocalDescription();
  const response = await fetch("api/offer", { method: "POST", headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ sdp: pc.localDescription.sdp, type: "offer" }) });
  await pc.setRemoteDescription({ type: "answer", sdp: (await response.json()).sdp });
  while (pc.connectionState !== "connected") await new Promise(resolve => setTimeout(resolve, 20));
  return /^a=ice-ufrag:.([A-Za-z0-9]*)\\+/m.exec(pc.remoteDescription.sdp)[1];
})()"""


def free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


class Caller:
    """A browser, and what it hears."""

    def __init__(self, browser: Browser, cluster: Cluster) -> None:
        self.browser = browser
        self.cluster = cluster
        self.rows: list[tuple[str, str, float, float]] = []

    async def call(self, url: str) -> str:
        """Call from our page; return the node that has the call."""
        await self.browser.goto(url)
        await self.browser.click("#call")
        await self.browser.wait_for(HEARD, timeout=PATIENCE)
        await self.pass_time()
        await self.browser.evaluate(WATCH)
        return str(await self.browser.evaluate(NODE))

    async def pass_time(self, milliseconds: int = SETTLE) -> None:
        began = await self.browser.evaluate("performance.now()")
        await self.browser.wait_for(f"performance.now() - {began} > {milliseconds}", timeout=PATIENCE)

    async def heard_again(self, milliseconds: int = SETTLE) -> float:
        """Return the longest silence, in seconds, once there was sound again for a while."""
        await self.pass_time(milliseconds)
        await self.browser.wait_for(HEARD, timeout=PATIENCE)
        await self.pass_time(1000)
        await self.browser.wait_for(HEARD, timeout=PATIENCE)
        assert await self.browser.evaluate("held") == 0, "the program was interrupted: its silence is no part's"
        return round(await self.browser.evaluate("window.longest") / 1000, 2)

    def note(self, event: str, hears: str, seconds: float, bound: float) -> None:
        self.rows.append((event, hears, seconds, bound))
        print(f"\n| {event} | {hears} | {seconds:.2f} s | ≤ {bound:g} s |", end="", flush=True)

    async def plain_call(self, url: str) -> str:
        """Call without our page's scripts; return the node."""
        await self.browser.goto(url)
        return str(await self.browser.evaluate(PLAIN, PATIENCE))

    def check(self) -> None:
        assert self.rows
        for event, _, seconds, bound in self.rows:
            assert seconds <= bound, event


@asynccontextmanager
async def calling(own: str = "") -> AsyncIterator[Caller]:
    absent = clusters.why_not()
    if absent is not None:
        pytest.skip(absent)
    with loopback_namespace() as isolated, TemporaryDirectory() as folder:
        if not isolated:
            pytest.skip("network namespaces are not permitted here")
        quiet = Path(folder) / "quiet.wav"
        write_wav(quiet, np.zeros(MICROPHONE_RATE, np.int16), MICROPHONE_RATE)
        config = ClusterConfig(PROGRAM, own, ports=free_ports())
        async with clusters.running(config) as cluster, launch("chromium", audio_file=quiet) as browser:
            caller = Caller(browser, cluster)
            yield caller
            caller.check()


async def both_nodes(caller: Caller) -> None:
    """Wait until signaling and relay know both nodes, and the agents are there."""
    await wait_for(lambda: clusters.knows_both(caller.cluster), "two nodes")


def kill_workers(caller: Caller, node: str) -> None:
    for child in caller.cluster.parts[node].children():
        os.kill(child, signal.SIGKILL)


async def workers_back(caller: Caller, node: str, former: list[int]) -> None:
    async def replaced() -> bool:
        found = caller.cluster.parts[node].children()
        return bool(found) and not set(found) & set(former)

    await wait_for(replaced, "another worker")


async def test_the_relay_is_killed() -> None:
    async with calling() as caller:
        cluster = caller.cluster
        relay = cluster.parts["relay"]
        await caller.call(cluster.by_relay)
        (forwarding, *_) = relay.children()
        os.kill(forwarding, signal.SIGKILL)
        caller.note("the relay's process that forwards killed", "nothing", await caller.heard_again(), 0.3)
        await caller.browser.evaluate(WATCH)
        relay.send(signal.SIGKILL)
        caller.note("relay killed, and started again", "a gap", await caller.heard_again(), 0.3)


async def test_media_parts_are_killed() -> None:
    async with calling() as caller:
        cluster = caller.cluster
        for path, url in (("by the relay", cluster.by_relay), ("direct", cluster.direct)):
            node = await caller.call(url)
            former = cluster.parts[node].children()
            kill_workers(caller, node)
            silence = await caller.heard_again()
            caller.note(f"media worker killed, {path}", "silence, then the page's next call", silence, 1.0)
            await workers_back(caller, node, former)

        node = await caller.plain_call(cluster.by_relay)
        await caller.pass_time(LOOPBACK_PAIR)
        former = cluster.parts[node].children()
        at = await caller.browser.evaluate("performance.now()")
        kill_workers(caller, node)
        await caller.browser.wait_for("pc.connectionState === 'failed'", timeout=PATIENCE)
        states = await caller.browser.evaluate("window.states")
        failed = next(when for state, when in states if state == "failed")
        caller.note(
            "media worker killed, no page of ours", "silence, until Chromium says so", (failed - at) / 1000, 3.0
        )
        await workers_back(caller, node, former)

        for what, kill, hears in (
            ("process", lambda node: cluster.parts[node].end(), "a gap: the worker has the page call again"),
            ("machine", lambda node: cluster.parts[node].kill_all(), "silence, then the page's next call"),
        ):
            node = await caller.call(cluster.by_relay)
            await kill(node)
            caller.note(f"node's {what} killed", hears, await caller.heard_again(), 1.0)
            await cluster.start(node)
            await both_nodes(caller)

        node = await caller.call(cluster.by_relay)
        cluster.parts[node].send(signal.SIGTERM)
        await caller.browser.wait_for("voiceStack.movedFrom !== null", timeout=PATIENCE)
        caller.note("node drained", "nothing", await caller.heard_again(), 0.3)
        await cluster.parts[node].end()
        await cluster.start(node)
        await both_nodes(caller)

        node = await caller.call(cluster.by_relay)
        cluster.network.set_link(node, "in", up=False)
        silence = await caller.heard_again()
        caller.note("node cut off from relay and engine", "silence, then the page's next call", silence, 1.0)
        cluster.network.set_link(node, "in", up=True)


async def test_programs_and_the_engine_are_killed() -> None:
    async with calling(own=PROGRAM) as caller:
        cluster = caller.cluster
        await cluster.parts["a2"].end()
        await caller.call(cluster.by_relay)
        await cluster.start("a2")
        at = await caller.browser.evaluate("performance.now()")
        await caller.browser.evaluate(
            "(window.told = [], voiceStack.on('program', ({ state }) => told.push([state, performance.now()])), 1)"
        )
        cluster.parts["a1"].send(signal.SIGKILL)
        await caller.browser.wait_for("told.some(([state]) => state === 'continued')", timeout=PATIENCE)
        told = dict(json.loads(await caller.browser.evaluate("JSON.stringify(told)")))
        caller.note("agent killed: told", "–", (told["lost"] - at) / 1000, 1.0)
        caller.note("agent killed: taken by another", "silence", await caller.heard_again(), 2.0)
        await cluster.start("a1")

        for name in ("signaling", "signaling-direct"):
            await caller.call(cluster.by_relay if name == "signaling" else cluster.direct)
            await cluster.parts[name].end()
            caller.note(f"{name} killed", "nothing", await caller.heard_again(), 0.3)
            await cluster.start(name)
            await both_nodes(caller)

        node = await caller.call(cluster.direct)
        cluster.network.set_link(node, "in", up=False)
        await caller.pass_time(1500)
        cluster.network.set_link(node, "in", up=True)
        caller.note(
            "node cut off from the engine for 1.5 s, program behind it",
            "silence while it is",
            await caller.heard_again(4000),
            5.0,
        )

        for name in ("a1", "a2"):
            await cluster.parts[name].end()
        await caller.call(cluster.by_relay)  # a program of the node's own
        await cluster.parts["engine"].end()
        caller.note("engine killed, program of the node", "nothing", await caller.heard_again(4000), 0.3)
        await caller.call(cluster.by_relay)  # and new calls come about
        caller.note("a new call while the engine is gone", "nothing", await caller.heard_again(500), 0.3)
