"""The local assistant without its models: a process that stands in for them, and what it was asked."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stack.agents.local.worker import Worker

FAKE = Path(__file__).with_name("fake_models.py")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "asked.jsonl"


@pytest.fixture
def asked(log: Path) -> Callable[[], list[dict[str, Any]]]:
    """Return what the models were asked so far."""
    return lambda: [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def worker(log: Path) -> Iterator[Worker]:
    worker = Worker((sys.executable, str(FAKE), str(log)))
    yield worker
    worker.close()
