"""Firefox by WebDriver BiDi, which it speaks itself: no geckodriver.

Its fake microphone is a tone and cannot be a file, so a file is played into `getUserMedia` by a captured media
element, from a script that runs before any of the page's own. (Not by Web Audio: without a sound device Firefox
leaves every AudioContext suspended. A test that listens records with MediaRecorder and decodes offline.)
"""

from __future__ import annotations

import asyncio
import base64
import fcntl
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from interop.browsers.browser import Browser, BrowserError, ConsoleLine, Microphone, Options
from interop.browsers.process import Installed, Process, fresh_profile, run
from interop.browsers.wire import Wire, connect

EXECUTABLES = ("firefox-esr", "firefox")

_PREFS: dict[str, bool | int | str] = {
    "media.getusermedia.insecure.enabled": True,
    "media.autoplay.default": 0,
    "media.autoplay.blocking_policy": 0,
    "media.peerconnection.ice.loopback": True,  # candidates on 127.0.0.1
    "media.peerconnection.ice.obfuscate_host_addresses": False,
    "media.peerconnection.ice.default_address_only": False,
    "media.gmp-manager.updateEnabled": False,
    # Nothing may leave the machine, and nothing may take the two cores while a call is being timed.
    "app.update.enabled": False,
    "app.normandy.enabled": False,
    "browser.aboutwelcome.enabled": False,
    "browser.cache.disk.enable": False,
    "browser.newtabpage.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "datareporting.policy.firstRunURL": "",
    "extensions.systemAddon.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.disablePrefetch": True,
    "privacy.reduceTimerPrecision": False,  # performance.now() to the microsecond, as in Chromium
    "privacy.trackingprotection.enabled": False,
    "services.settings.server": "data:,",
    "startup.homepage_welcome_url": "",
    "toolkit.telemetry.server": "",
    "toolkit.telemetry.unified": False,
}
# A profile's own: settings, and what was open. The rest, compiled scripts above all, halves a start.
_OF_ONE_PROFILE = shutil.ignore_patterns(
    "prefs.js", "user.js", "lock", ".parentlock", "session*", "permissions.sqlite*"
)
_KEYS = {"Tab": "\ue004", "Enter": "\ue006", "Escape": "\ue00c", "Space": " "}
_LEVELS = {"warn": "warning", "error": "error", "debug": "debug"}

_FILE_AS_MICROPHONE = """() => {
  const devices = navigator.mediaDevices;
  if (!devices) return;
  const bytes = Uint8Array.from(atob(%(wav)s), c => c.charCodeAt(0));
  const genuine = devices.getUserMedia.bind(devices);
  devices.getUserMedia = async constraints => {
    // The real one is opened too: Firefox gathers all host candidates only while something is captured.
    const captured = await genuine(constraints);
    const player = new Audio(URL.createObjectURL(new Blob([bytes], { type: "audio/wav" })));
    player.loop = %(loop)s;
    const stream = player.mozCaptureStream();
    await player.play();
    (window.__microphones ??= []).push([player, captured]);   // or they would be collected as garbage
    return new MediaStream(stream.getAudioTracks());
  };
}"""


def preferences(options: Options) -> dict[str, bool | int | str]:
    """What goes into the profile's `user.js`."""
    if options.field_trials:
        raise BrowserError("field trials are Chromium's")
    prefs = {} if options.stock else dict(_PREFS)
    prefs["layout.css.prefers-color-scheme.content-override"] = 0 if options.color_scheme == "dark" else 1
    if options.reduced_motion:
        prefs["ui.prefersReducedMotion"] = 1
    granted = options.microphone is Microphone.GRANTED
    prefs["media.navigator.streams.fake"] = options.microphone is not Microphone.MISSING
    prefs["media.navigator.permission.disabled"] = options.microphone is not Microphone.REFUSED
    prefs["media.navigator.permission.fake"] = granted
    if options.microphone is Microphone.REFUSED:
        prefs["permissions.default.microphone"] = 2
    if options.dtls_1_2_only:
        prefs["media.peerconnection.dtls.version.max"] = 0x0303  # counted as TLS counts
    if not options.post_quantum:
        prefs["media.webrtc.enable_pq_hybrid_kex"] = False
    return prefs | options.prefs


@asynccontextmanager
async def start(installed: Installed, options: Options) -> AsyncIterator[Browser]:
    """Start Firefox with a tab of its own."""
    async with fresh_profile(installed.name) as profile:
        if not options.stock:
            with suppress(OSError):  # no place to keep one: it starts as a fresh one does
                shutil.copytree(await _started_once(installed, options), profile, dirs_exist_ok=True)
        async with _running(installed, options, profile) as (_, browser):
            yield browser


@asynccontextmanager
async def _running(
    installed: Installed, options: Options, profile: Path
) -> AsyncIterator[tuple[Process, Firefox]]:
    lines = (f"user_pref({json.dumps(k)}, {json.dumps(v)});\n" for k, v in preferences(options).items())
    (profile / "user.js").write_text("".join(lines))
    argv = [installed.executable, "--headless", "--no-remote", "--new-instance", "--profile", str(profile)]
    argv += ["--remote-debugging-port", "0", *options.extra_args, "about:blank"]
    async with run(argv, profile, r"WebDriver BiDi listening on (ws://\S+)") as process:
        url = await process.address(options.start_timeout)
        browser = Firefox(installed)
        async with connect(f"{url}/session", browser.on_event, options.start_timeout) as wire:
            await browser.attach(wire, options)
            yield process, browser


async def _started_once(installed: Installed, options: Options) -> Path:
    """The profile of a Firefox of this version that was started once and closed; made where there is none."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voice-stack"
    cache.mkdir(parents=True, exist_ok=True)
    made = cache / f"firefox-{installed.version}"
    with (cache / "firefox.lock").open("w") as lock:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)  # one process makes it, others wait
        if made.is_dir():
            return made
        async with fresh_profile(installed.name) as profile:
            plain = replace(options, prefs={}, extra_args=(), audio_file=None)
            async with _running(installed, plain, profile) as (process, browser):
                await browser.close()
                with suppress(TimeoutError):
                    await asyncio.wait_for(process.ended(), options.start_timeout)  # it writes its caches last
            unfinished = cache / f"{made.name}.{os.getpid()}"
            shutil.copytree(profile, unfinished, symlinks=True, ignore=_OF_ONE_PROFILE)
            unfinished.rename(made)
    return made


class Firefox(Browser):
    """A tab of Firefox."""

    def __init__(self, installed: Installed) -> None:
        super().__init__(installed)
        self._wire: Wire | None = None
        self._context = ""

    async def attach(self, wire: Wire, options: Options) -> None:
        """Begin a session, listen, and open a tab."""
        self._wire = wire
        timeout = options.start_timeout
        await wire.command("session.new", {"capabilities": {}}, timeout=timeout)
        await wire.command("session.subscribe", {"events": ["log.entryAdded"]}, timeout=timeout)
        # The tab that it started with never gets the focus, and so ignores Enter and Space on its buttons.
        tab = await wire.command("browsingContext.create", {"type": "tab"}, timeout=timeout)
        self._context = tab["context"]
        await self.set_viewport(*options.viewport)
        if options.audio_file is not None and options.microphone is Microphone.GRANTED:
            wav = base64.b64encode(options.audio_file.read_bytes()).decode()
            script = _FILE_AS_MICROPHONE % {"wav": json.dumps(wav), "loop": json.dumps(options.loop_audio)}
            await self._command("script.addPreloadScript", {"functionDeclaration": script})

    async def close(self) -> None:
        """Ask Firefox to end, as a person does who closes its last window."""
        await self._command("browser.close", {})

    async def _command(self, method: str, params: dict[str, Any], timeout: float = 120.0) -> dict[str, Any]:
        assert self._wire is not None
        return await self._wire.command(method, params, timeout=timeout)

    def on_event(self, method: str, params: dict[str, Any]) -> None:
        """Collect what the page says."""
        if method != "log.entryAdded":
            return
        if params["type"] == "javascript" and params["level"] == "error":
            self.errors.append(params["text"] or "")
        else:
            self.console.append(ConsoleLine(_LEVELS.get(params["level"], "info"), params["text"] or ""))

    async def goto(self, url: str, timeout: float = 60.0) -> None:
        navigation = {"context": self._context, "url": url, "wait": "complete"}
        await self._command("browsingContext.navigate", navigation, timeout)

    async def _evaluate(self, expression: str, timeout: float) -> str:
        result = await self._command(
            "script.evaluate",
            {
                "expression": expression,
                "target": {"context": self._context},
                "awaitPromise": True,
                "userActivation": True,
            },
            timeout,
        )
        if result["type"] == "exception":
            raise BrowserError(result["exceptionDetails"]["text"])
        value: str = result["result"]["value"]
        return value

    async def screenshot(self, full_page: bool = False) -> bytes:
        origin = "document" if full_page else "viewport"
        shot = await self._command(
            "browsingContext.captureScreenshot", {"context": self._context, "origin": origin}
        )
        return base64.b64decode(shot["data"])

    async def set_viewport(self, width: int, height: int) -> None:
        viewport = {"width": width, "height": height}
        await self._command("browsingContext.setViewport", {"context": self._context, "viewport": viewport})

    async def press(self, key: str) -> None:
        value = _KEYS.get(key, key)
        actions = [{"type": "keyDown", "value": value}, {"type": "keyUp", "value": value}]
        await self._act({"type": "key", "id": "keyboard", "actions": actions})

    async def _click_at(self, x: float, y: float) -> None:
        actions = [
            {"type": "pointerMove", "x": round(x), "y": round(y)},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        await self._act({"type": "pointer", "id": "mouse", "actions": actions})

    async def _act(self, source: dict[str, Any]) -> None:
        await self._command("input.performActions", {"context": self._context, "actions": [source]})
