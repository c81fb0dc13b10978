"""What a test sees of a browser, whichever it is."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from interop.browsers.process import BrowserError, Installed

__all__ = ["Browser", "BrowserError", "ConsoleLine", "Microphone", "Options"]


class Microphone(Enum):
    """What `getUserMedia` finds."""

    GRANTED = "granted"
    REFUSED = "refused"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Options:
    """How a browser is started; `launch` documents each."""

    audio_file: Path | None
    loop_audio: bool
    microphone: Microphone
    color_scheme: Literal["light", "dark"]
    reduced_motion: bool
    viewport: tuple[int, int]
    dtls_1_2_only: bool
    post_quantum: bool
    stock: bool
    field_trials: dict[str, str]
    prefs: dict[str, bool | int | str]
    extra_args: tuple[str, ...]
    start_timeout: float


@dataclass(frozen=True, slots=True)
class ConsoleLine:
    """One line of the page's console: `level` is debug, info, warning or error."""

    level: str
    text: str


class Browser(ABC):
    """One browser with one page."""

    def __init__(self, installed: Installed) -> None:
        self.name = installed.name
        self.version = installed.version
        self.console: list[ConsoleLine] = []
        """What the page wrote to its console, and what the browser wrote there about the page."""
        self.errors: list[str] = []
        """Exceptions that the page did not catch."""

    @abstractmethod
    async def goto(self, url: str, timeout: float = 60.0) -> None:
        """Load `url` and wait until its `load` event has fired."""

    @abstractmethod
    async def _evaluate(self, expression: str, timeout: float) -> str:
        """Evaluate an expression whose value is a promise of a string."""

    @abstractmethod
    async def screenshot(self, full_page: bool = False) -> bytes:
        """What the page looks like, as a PNG."""

    @abstractmethod
    async def set_viewport(self, width: int, height: int) -> None:
        """Give the page that many CSS pixels."""

    @abstractmethod
    async def press(self, key: str) -> None:
        """Press and release a key as a user would: a character, or Tab, Enter, Escape, Space."""

    @abstractmethod
    async def _click_at(self, x: float, y: float) -> None:
        """Press and release the primary button at a point of the viewport."""

    async def evaluate(self, expression: str, timeout: float = 60.0) -> Any:
        """Return the value of a JavaScript expression, awaited if it is a promise, as JSON sees it.

        Raises `BrowserError` with the page's own message if it throws, or after `timeout` seconds.
        """
        wrapped = f"(async () => JSON.stringify(await ({expression}\n)) ?? 'null')()"
        try:
            return json.loads(await asyncio.wait_for(self._evaluate(wrapped, timeout), timeout))
        except TimeoutError:
            said = "; ".join([*self.errors, *(line.text for line in self.console)][-5:]) or "nothing"
            raise BrowserError(
                f"{self.name}: no value within {timeout:g} s from: {expression[:200]}; the page said: {said}"
            ) from None

    async def wait_for(self, expression: str, timeout: float = 60.0) -> Any:
        """Return the value of `expression` as soon as it is truthy."""
        pause = "await new Promise(resolve => setTimeout(resolve, 20));"
        loop = f"for (;;) {{ const value = await ({expression}\n); if (value) return value; {pause} }}"
        return await self.evaluate(f"(async () => {{ {loop} }})()", timeout)

    async def click(self, selector: str) -> None:
        """Click in the middle of the one visible element that `selector` names."""
        point = await self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); if (!e) return null;"
            "e.scrollIntoView({block: 'center', behavior: 'instant'}); const r = e.getBoundingClientRect();"
            "return r.width && r.height ? [r.x + r.width / 2, r.y + r.height / 2] : null; })()"
        )
        if point is None:
            raise BrowserError(f"{self.name}: nothing to click at {selector!r}")
        await self._click_at(*point)
