"""The media side of the servers under test: in a thread, in a process, in several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import stack.signaling.server
from stack.aio import Host, HostConfig
from stack.aio.workers import default_workers
from stack.core.trace import PacketTrace


def run_with(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every server that the test begins have so many media workers."""
    if workers and not default_workers():
        pytest.skip("media workers need Linux or macOS")

    class HostWithWorkers(Host):
        def __init__(
            self,
            program: Callable[..., Any],
            config: HostConfig | None = None,
            trace: PacketTrace | None = None,
        ) -> None:
            super().__init__(program, replace(config or HostConfig(), workers=workers), trace)

    monkeypatch.setattr(stack.signaling.server, "Host", HostWithWorkers)
