"""The programs of docs/guides/your-own-model.md at work, as they stand there."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guides" / "your-own-model.md").read_text("utf-8")
TOOLS, ANSWER, TEST = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_tools_are_described_as_they_stand_there() -> None:
    names: dict[str, Any] = {"__name__": "page"}
    exec(TOOLS, names)
    (tool,) = names["agent"]._tools.values()
    assert tool.description["function"]["description"] == "When the shop is open on a day of the week."
    assert tool.description["function"]["parameters"]["required"] == ["day"]


def test_the_test_holds_for_the_program() -> None:
    pytest.importorskip("espeakng_loader", reason="the demo extra is not installed")
    tone = (9000 * np.sin(2 * np.pi * 500 * np.arange(5 * 24_000) / 24_000)).astype(np.int16)
    heard: list[float] = []

    async def my_model(_: object) -> AsyncIterator[np.ndarray]:
        yield tone

    names: dict[str, Any] = {"my_model": my_model, "forget_after": heard.append}
    exec(ANSWER, names)
    exec(TEST, names)
    names["test_it_stops_when_it_is_interrupted"]()
    assert 1000 < heard[0] < 2500


def test_every_option_that_it_names_is_there() -> None:
    from stack.cli import serve

    options = {name for parameter in serve.params for name in parameter.opts}
    assert set(re.findall(r"(?<![-|])--[a-z][a-z-]+", PAGE)) <= options
