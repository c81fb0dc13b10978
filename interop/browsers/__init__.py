"""Real browsers, headless, driven without any driver program: `async with launch("chromium") as browser: ...`.

Chromium is spoken to by the Chrome DevTools Protocol, Firefox by WebDriver BiDi, both over aiohttp's WebSocket
client. What differs between them is kept in `chromium.py` and `firefox.py`; tests see `Browser` alone.

Left out: more than one page to a browser, and WebKit, whose Linux builds have no RTCPeerConnection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from interop.browsers import chromium, firefox
from interop.browsers.browser import Browser, BrowserError, ConsoleLine, Microphone, Options
from interop.browsers.namespace import addressed_namespace, loopback_namespace
from interop.browsers.policies import PoliciesUnavailable, managed_policies
from interop.browsers.process import Installed, find

__all__ = [
    "Browser",
    "BrowserError",
    "ConsoleLine",
    "Installed",
    "Microphone",
    "Options",
    "PoliciesUnavailable",
    "addressed_namespace",
    "available",
    "launch",
    "loopback_namespace",
    "managed_policies",
]

_BROWSERS = {"chromium": chromium, "firefox": firefox}


def available() -> list[Installed]:
    """The browsers that this machine can start, Chromium before Firefox, each with its path and version."""
    found = (find(name, module.EXECUTABLES) for name, module in _BROWSERS.items())
    return [browser for browser in found if browser is not None]


@asynccontextmanager
async def launch(
    name: str,
    *,
    audio_file: Path | None = None,
    loop_audio: bool = True,
    microphone: Microphone = Microphone.GRANTED,
    color_scheme: Literal["light", "dark"] = "light",
    reduced_motion: bool = False,
    viewport: tuple[int, int] = (1280, 800),
    dtls_1_2_only: bool = False,
    post_quantum: bool = True,
    stock: bool = False,
    field_trials: Mapping[str, str] | None = None,
    prefs: Mapping[str, bool | int | str] | None = None,
    extra_args: Sequence[str] = (),
    start_timeout: float = 90.0,
) -> AsyncIterator[Browser]:
    """Start browser `name` with a fresh profile and one blank page; end all of it on the way out.

    `audio_file` is a WAV that plays as the microphone (without one, the browser's own test tone does).
    `field_trials` are Chromium's, `prefs` are Firefox's, `dtls_1_2_only` works in Firefox alone.
    A `stock` profile has the settings that people have: nothing but what drives the browser without a screen and
    feeds it a microphone without a question. The others also use loopback for calls and leave out what costs time.
    `viewport` is in CSS pixels, `start_timeout` in seconds. Raises `BrowserError` for whatever goes wrong.
    """
    if name not in _BROWSERS:
        raise BrowserError(f"no browser is called {name!r}; there are {', '.join(_BROWSERS)}")
    module = _BROWSERS[name]
    installed = find(name, module.EXECUTABLES)
    if installed is None:
        raise BrowserError(f"{name} is not installed here")
    options = Options(
        audio_file=audio_file,
        loop_audio=loop_audio,
        microphone=microphone,
        color_scheme=color_scheme,
        reduced_motion=reduced_motion,
        viewport=viewport,
        dtls_1_2_only=dtls_1_2_only,
        post_quantum=post_quantum,
        stock=stock,
        field_trials=dict(field_trials or {}),
        prefs=dict(prefs or {}),
        extra_args=tuple(extra_args),
        start_timeout=start_timeout,
    )
    async with module.start(installed, options) as browser:
        yield browser
