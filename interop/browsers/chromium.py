"""Chromium by the Chrome DevTools Protocol (flat sessions on the browser's own WebSocket)."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from interop.browsers.browser import Browser, BrowserError, ConsoleLine, Microphone, Options
from interop.browsers.process import Installed, fresh_profile, run
from interop.browsers.wire import COMMAND_TIMEOUT, Wire, connect

EXECUTABLES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")

_STOCK_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # root in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--password-store=basic",
    "--remote-debugging-port=0",
)
_ARGUMENTS = (
    *_STOCK_ARGUMENTS,
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-breakpad",
    "--disable-extensions",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
    # Chromium slows down a page that is not visible, as these are not.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--allow-loopback-in-peer-connection",  # candidates on 127.0.0.1 where there is no other interface
)
_LEVELS = {"warning": "warning", "error": "error", "assert": "error", "debug": "debug", "verbose": "debug"}
_KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "Space": 32}


def arguments(options: Options, profile: Path) -> list[str]:
    """The command line after the executable's name."""
    if options.dtls_1_2_only or options.prefs:
        raise BrowserError("Chromium has no preferences, and no switch that turns DTLS 1.3 off")
    width, height = options.viewport
    chosen = [
        *(_STOCK_ARGUMENTS if options.stock else _ARGUMENTS),
        f"--user-data-dir={profile}",
        f"--window-size={width},{height}",
    ]
    if options.microphone is not Microphone.MISSING:
        chosen.append("--use-fake-device-for-media-stream")
        refuse = "=deny" if options.microphone is Microphone.REFUSED else ""
        chosen.append(f"--use-fake-ui-for-media-stream{refuse}")
    if options.audio_file is not None:
        once = "" if options.loop_audio else "%noloop"
        chosen.append(f"--use-file-for-fake-audio-capture={options.audio_file.resolve()}{once}")
    trials = dict(options.field_trials)
    if not options.post_quantum:
        trials.setdefault("WebRTC-EnableDtlsPqc", "Disabled")
        chosen.append("--disable-features=WebRtcPqcForDtls")
    if trials:
        chosen.append("--force-fieldtrials=" + "".join(f"{name}/{group}/" for name, group in trials.items()))
    return [*chosen, *options.extra_args, "about:blank"]


@asynccontextmanager
async def start(installed: Installed, options: Options) -> AsyncIterator[Browser]:
    """Start Chromium and attach to a page of its own."""
    async with fresh_profile(installed.name) as profile:
        argv = [installed.executable, *arguments(options, profile)]
        async with run(argv, profile, r"DevTools listening on (ws://\S+)") as process:
            url = await process.address(options.start_timeout)
            browser = Chromium(installed)
            async with connect(url, browser.on_event, options.start_timeout) as wire:
                await browser.attach(wire, options)
                yield browser


class Chromium(Browser):
    """A page of Chromium."""

    def __init__(self, installed: Installed) -> None:
        super().__init__(installed)
        self._wire: Wire | None = None
        self._session = ""

    async def attach(self, wire: Wire, options: Options) -> None:
        """Make a page and listen to it."""
        self._wire = wire
        timeout = options.start_timeout
        target = await wire.command("Target.createTarget", {"url": "about:blank"}, timeout=timeout)
        attached = await wire.command(
            "Target.attachToTarget", {"targetId": target["targetId"], "flatten": True}, timeout=timeout
        )
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await self._command(f"{domain}.enable")
        await self.set_viewport(*options.viewport)
        features = [{"name": "prefers-color-scheme", "value": options.color_scheme}]
        if options.reduced_motion:
            features.append({"name": "prefers-reduced-motion", "value": "reduce"})
        await self._command("Emulation.setEmulatedMedia", {"features": features})

    async def _command(
        self, method: str, params: dict[str, Any] | None = None, timeout: float = COMMAND_TIMEOUT
    ) -> dict[str, Any]:
        assert self._wire is not None
        return await self._wire.command(method, params, timeout=timeout, sessionId=self._session)

    def on_event(self, method: str, params: dict[str, Any]) -> None:
        """Collect what the page says."""
        if method == "Runtime.consoleAPICalled":
            words = (str(a.get("value", a.get("description", a["type"]))) for a in params["args"])
            self.console.append(ConsoleLine(_LEVELS.get(params["type"], "info"), " ".join(words)))
        elif method == "Log.entryAdded":
            entry = params["entry"]
            text = " ".join(filter(None, (entry["text"], entry.get("url"))))
            self.console.append(ConsoleLine(_LEVELS.get(entry["level"], "info"), text))
        elif method == "Runtime.exceptionThrown":
            self.errors.append(_describe(params["exceptionDetails"]))

    async def goto(self, url: str, timeout: float = 60.0) -> None:
        result = await self._command("Page.navigate", {"url": url})
        if "errorText" in result:
            raise BrowserError(f"{url}: {result['errorText']}")
        await self.wait_for("document.readyState === 'complete'", timeout)

    async def _evaluate(self, expression: str, timeout: float) -> str:
        result = await self._command(
            "Runtime.evaluate",
            {"expression": expression, "awaitPromise": True, "returnByValue": True, "userGesture": True},
            timeout,
        )
        if "exceptionDetails" in result:
            raise BrowserError(_describe(result["exceptionDetails"]))
        value: str = result["result"]["value"]
        return value

    async def screenshot(self, full_page: bool = False) -> bytes:
        shot = await self._command("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": full_page})
        return base64.b64decode(shot["data"])

    async def set_viewport(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self._command("Emulation.setDeviceMetricsOverride", metrics)

    async def press(self, key: str) -> None:
        name = " " if key == "Space" else key
        event: dict[str, Any] = {"key": name, "code": key}
        if key in _KEYS:
            event["windowsVirtualKeyCode"] = _KEYS[key]
        text = "\r" if key == "Enter" else name if len(name) == 1 else None
        down = event | ({"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"})
        await self._command("Input.dispatchKeyEvent", down)
        await self._command("Input.dispatchKeyEvent", event | {"type": "keyUp"})

    async def _click_at(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            event = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}
            await self._command("Input.dispatchMouseEvent", event)


def _describe(details: dict[str, Any]) -> str:
    exception = details.get("exception", {})
    return str(exception.get("description") or exception.get("value") or details["text"])
