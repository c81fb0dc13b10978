"""The media side of the servers under test: in a thread, in a process, in several behind either steering."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import stack.signaling.server
from stack.aio import Host, HostConfig
from stack.aio.steering import Steering, can_share_a_port
from stack.aio.workers import default_workers
from stack.core.trace import PacketTrace
from stack.dtls import KeyLog


def available(steering: Steering) -> Any:
    """Return a parameter of a test of several workers, which is skipped where this steering cannot be had."""
    missing = not default_workers() or (steering is Steering.KERNEL and not can_share_a_port())
    return pytest.param(
        steering, id=steering.value, marks=pytest.mark.skipif(missing, reason="not on this system")
    )


STEERINGS = [available(steering) for steering in Steering]


def run_with(workers: int, monkeypatch: pytest.MonkeyPatch, steering: Steering | None = None) -> None:
    """Let every server that the test begins have so many media workers, which share their port in this way."""
    if workers and not default_workers():
        pytest.skip("media workers need Linux or macOS")

    class HostWithWorkers(Host):
        def __init__(
            self,
            program: Callable[..., Any],
            config: HostConfig | None = None,
            trace: PacketTrace | None = None,
            key_log: KeyLog | None = None,
        ) -> None:
            config = replace(config or HostConfig(), workers=workers, steering=steering)
            super().__init__(program, config, trace, key_log)

    monkeypatch.setattr(stack.signaling.server, "Host", HostWithWorkers)
