"""Peers that are programs which take an end's commands as JSON lines: aiortc, Pion, GStreamer."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from interop.evidence import Side
from interop.lab import process
from interop.peers.base import End, EndError, Needs, Peer, ProcessEnd, Traits, Wishes, to_be_told

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
PION = ROOT / "build" / "peers" / "pion_peer"
COMMON = frozenset({"video", "audio_sections", "channels", "ip"})
"""What most drivers know beyond a plain call."""
GSTREAMER = ("/usr/bin/python3", str(HERE / "gstreamer" / "peer.py"))


@cache
def why_gstreamer_is_absent() -> str | None:
    """One line, or None if it is there."""
    check = (
        "import gi; [gi.require_version(n, '1.0') for n in ('Gst', 'GstSdp', 'GstWebRTC')]; "
        "from gi.repository import Gst, GstSdp, GstWebRTC; Gst.init(None); "
        "names = ('webrtcbin', 'nicesrc', 'dtlsenc', 'srtpenc', 'sctpenc', 'opusenc', 'vp8enc', 'rtpopuspay'); "
        "import sys; sys.exit(' '.join(n for n in names if Gst.ElementFactory.find(n) is None) or 0)"
    )
    try:
        done = subprocess.run([GSTREAMER[0], "-c", check], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        return f"GStreamer: {error}"
    said = done.stderr.strip().splitlines()
    return (
        None if done.returncode == 0 else f"no GStreamer with webrtcbin here: {said[-1] if said else 'it ended'}"
    )


def why_pion_is_absent() -> str | None:
    """One line, or None if it is there."""
    if not PION.exists():
        return "Pion is not built here: `make peers` builds it where there is go"
    if PION.stat().st_mtime < (HERE / "pion" / "main.go").stat().st_mtime:
        return "Pion was built from an older main.go: `make peers` builds it again"
    return None


@dataclass
class ProgramPeer(Peer):
    """A program: how it is started, what it can be told, and how to get it."""

    name: str
    needs: Needs
    command: Sequence[str]
    absent: Callable[[], str | None]
    find_version: Callable[[], str]
    sides: Sequence[Side] = ("client", "server")
    traits: Traits = field(default_factory=Traits)
    needs_packets: bool = False
    supported: frozenset[str] = frozenset({"video"})
    makes_many: bool = False
    """Its driver makes several calls in one process."""

    def __post_init__(self) -> None:
        if not self.needs_packets and "speech" not in self.supported:
            self.traits = replace(self.traits, plays_speech=False)

    def why_absent(self) -> str | None:
        return self.absent()

    def version(self) -> str:
        return self.find_version()

    @asynccontextmanager
    async def start(self, side: Side, wishes: Wishes) -> AsyncIterator[End]:
        # What it has no way to be told is refused before it is started.
        to_be_told(self.name, self.supported, self.needs_packets, side, wishes)
        try:
            async with process(self.name, self.command) as lab:
                yield ProcessEnd(lab, side, self.needs_packets, self.supported)
        except OSError as error:
            raise EndError(f"{self.name} does not start: {error}") from error

    def start_many(self, side: Side, wishes: Wishes, count: int) -> AbstractAsyncContextManager[Sequence[End]]:
        if not self.makes_many:
            return super().start_many(side, wishes, count)
        to_be_told(self.name, self.supported, self.needs_packets, side, wishes)
        return self._start_many(side, count)

    @asynccontextmanager
    async def _start_many(self, side: Side, count: int) -> AsyncIterator[Sequence[End]]:
        async with process(self.name, self.command) as lab:
            yield [ProcessEnd(lab, side, self.needs_packets, self.supported, number) for number in range(count)]


def _aiortc_version() -> str:
    try:
        return version("aiortc")
    except PackageNotFoundError:
        return ""


def module_version(folder: Path, module: str) -> str:
    """The version of a Go module that a program asks for."""
    for line in (folder / "go.mod").read_text("utf-8").splitlines():
        if f"{module} v" in line:
            return line.split(" v")[-1].split()[0]
    return ""


def _pion_version() -> str:
    return module_version(HERE / "pion", "github.com/pion/webrtc/v4")


@cache
def _gstreamer_version() -> str:
    code = "import gi; gi.require_version('Gst', '1.0'); from gi.repository import Gst; Gst.init(None); "
    code += "print(*Gst.version()[:3], sep='.')"
    try:
        said = subprocess.run([GSTREAMER[0], "-c", code], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.stdout.strip()


def node_peer(
    name: str,
    package: str,
    *,
    needs_packets: bool,
    supported: frozenset[str],
    sides: Sequence[Side] = ("client", "server"),
    traits: Traits | None = None,
) -> ProgramPeer:
    """A stack for Node from npm, driven by `node/call.mjs`."""
    folder = HERE / "node"
    manifest = folder / "node_modules" / package / "package.json"

    def absent() -> str | None:
        if shutil.which("node") is None:
            return f"{name}: there is no node here"
        return None if manifest.exists() else f"{name} is not installed in interop/peers/node"

    def version() -> str:
        return str(json.loads(manifest.read_text("utf-8"))["version"]) if manifest.exists() else ""

    install = ("npm", "install", "--ignore-scripts", "--no-package-lock", "--prefix", "interop/peers/node")
    return ProgramPeer(
        name,
        Needs(f"Node 20 or later, and npm: {package}", (install,)),
        ("node", str(folder / "call.mjs"), name),
        absent,
        version,
        sides=sides,
        traits=traits or Traits(),
        needs_packets=needs_packets,
        supported=supported,
    )


def _pip(requirement: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "pip", "install", requirement)


@cache
def why_ffmpeg_is_absent() -> str | None:
    """One line, or None if it is there."""
    if find_spec("av") is None:
        return "PyAV is not installed here"
    import av

    return None if "whip" in av.formats_available else f"PyAV {version('av')} has an FFmpeg without the WHIP muxer"


def _ffmpeg_version() -> str:
    if find_spec("av") is None:
        return ""
    import av

    return ".".join(map(str, av.library_versions["libavformat"]))


PROGRAMS = (
    ProgramPeer(
        "aiortc",
        Needs("pip install aiortc", ((sys.executable, "-m", "pip", "install", "aiortc>=1.14"),)),
        (sys.executable, "-m", "interop.peers.aiortc_call"),
        lambda: None if _aiortc_version() else "aiortc is not installed here",
        _aiortc_version,
        supported=COMMON | {"codec", "bundle", "speech", "mute", "trickle"},
        makes_many=True,
    ),
    ProgramPeer(
        "pion",
        Needs("Go 1.24 or later: builds a program of ours over github.com/pion/webrtc/v4", (("make", "peers"),)),
        (str(PION),),
        why_pion_is_absent,
        _pion_version,
        needs_packets=True,
        supported=COMMON | {"bundle", "ptime", "mute", "trickle", "restart", "accept_again"},
        makes_many=True,
    ),
    ProgramPeer(
        "gstreamer",
        Needs(
            "Debian: apt install gstreamer1.0-plugins-bad gstreamer1.0-plugins-good gstreamer1.0-nice "
            "python3-gst-1.0 gir1.2-gst-plugins-bad-1.0"
        ),
        GSTREAMER,
        why_gstreamer_is_absent,
        _gstreamer_version,
        supported=frozenset(
            {"video", "audio_sections", "channels", "bundle", "codec", "mute", "ptime", "trickle", "ip"}
        ),
        # Of an empty message 1.22 makes a chunk without data, which its own SCTP refuses; it ends without a word.
        traits=Traits(knows_empty=False, says_goodbye=False),
    ),
    ProgramPeer(
        "ffmpeg",
        Needs("pip install 'av>=18': PyAV with an FFmpeg that has the WHIP muxer", (_pip("av>=18"),)),
        (sys.executable, "-m", "interop.peers.ffmpeg_whip"),
        why_ffmpeg_is_absent,
        _ffmpeg_version,
        supported=frozenset({"video", "own_certificate"}),
        sides=("client",),
        # It reads nothing once it sends: that the server has left it does not see.
        traits=Traits(hears=False, has_data=False, notices_the_end=False),
    ),
    node_peer(
        "wrtc",
        "@roamhq/wrtc",
        needs_packets=False,
        supported=COMMON | {"bundle", "mute", "trickle", "restart", "accept_again"},
    ),
    # It leaves empty messages out (RFC 8831 §6.6), and closes without close_notify.
    node_peer(
        "werift",
        "werift",
        needs_packets=True,
        supported=COMMON | {"bundle", "mute", "ptime", "trickle", "restart", "accept_again"},
        traits=Traits(knows_empty=False, says_goodbye=False),
    ),
    # Closing sends close_notify now and then, and mostly nothing.
    node_peer(
        "node-datachannel",
        "node-datachannel",
        needs_packets=True,
        supported=COMMON | {"mute", "ptime", "trickle"},  # it has no way to restart ICE
        traits=Traits(says_goodbye=False),
    ),
)
