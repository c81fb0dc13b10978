"""GStreamer's webrtcbin as the far end of a call, told what to do by JSON lines on stdin; answers leave on stdout.

The system's python3 runs it, which has GStreamer's bindings; so it imports nothing of this project. It needs
Debian's gstreamer1.0-plugins-bad, -good and -base, gstreamer1.0-nice, python3-gst-1.0, gir1.2-gst-plugins-bad-1.0.

    offer {hertz, level, video, data}   make a call that sends a sine; `level` is its amplitude, 1 for full scale
    answer {sdp}                  take the answer
    accept {sdp, hertz, level, video}   answer an offer with a call that sends a sine
    connected                     wait until the connection and the channel "trial" stand
    listen {seconds}              return so much of the sound that arrives from now on: int16 at 48 kHz, base64
    send {text} or {binary}       send on the channel; binary in base64
    receive                       wait for the next message, in the same form
    hang_up                       close the connection, without a word over HTTP
    wait_ended                    wait until the other side has ended the call
"""

from __future__ import annotations

import base64
import json
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

PATIENCE = 30.0
"""Seconds that any step may take; only to turn what hangs into an error."""
RATE = 48_000

AUDIO = (
    "audiotestsrc is-live=true wave=sine freq={hertz} volume={level} ! audio/x-raw,rate=48000,channels=1 ! "
    "opusenc ! rtpopuspay pt={pt} ! application/x-rtp,media=audio,encoding-name=OPUS,payload={pt},"
    "clock-rate=48000,encoding-params=(string)2 ! peer. "
)
VIDEO = (
    "videotestsrc is-live=true ! video/x-raw,width=160,height=120,framerate=5/1 ! vp8enc deadline=1 ! "
    "rtpvp8pay pt=96 ! application/x-rtp,media=video,encoding-name=VP8,payload=96,clock-rate=90000 ! peer. "
)
LISTEN = (
    "rtpopusdepay ! opusdec ! audioconvert ! audioresample ! audio/x-raw,format=S16LE,rate=48000,channels=1 ! "
    "appsink name=sound emit-signals=true sync=false"
)


class Peer:
    """One call. What GStreamer's threads report is kept under one lock."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._problem: str | None = None
        self._sound = bytearray()
        self._wanted = 0
        self._inbox: deque[dict[str, str]] = deque()
        self._channel_state = "none"
        self._replies: list[Any] = []  # freed early by the bindings, a promise's reply takes its contents with it

    # -- commands ----------------------------------------------------------------------------------------------

    def _make(self, sources: str) -> None:
        self._pipeline = Gst.parse_launch("webrtcbin name=peer bundle-policy=max-bundle " + sources)
        self._peer = self._pipeline.get_by_name("peer")
        self._peer.connect("pad-added", self._on_pad)
        self._peer.connect("on-data-channel", self._on_channel)
        for name in ("connection-state", "ice-connection-state", "ice-gathering-state"):
            self._peer.connect(f"notify::{name}", self._on_state)
        bus = self._pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", self._on_error)

    def offer(self, hertz: float, level: float, video: bool = False, data: bool = True) -> str:
        self._make(AUDIO.format(hertz=hertz, level=level, pt=111) + (VIDEO if video else ""))
        self._has_data = data
        if data:
            self._pipeline.set_state(Gst.State.READY)
            self._channel = self._peer.emit("create-data-channel", "trial", None)
            self._watch(self._channel)
        self._pipeline.set_state(Gst.State.PLAYING)
        # Its offer has a section for each pad that has caps: wait until sound, and pictures, have begun.
        sections = 2 if video else 1
        self._until(lambda: self._ready_pads() == sections, "the sources to begin")
        offer = self._ask("create-offer", None).get_value("offer")
        return self._described(offer)

    def _described(self, description: Any) -> str:
        self._ask("set-local-description", description)
        complete = GstWebRTC.WebRTCICEGatheringState.COMPLETE
        self._until(lambda: self._peer.get_property("ice-gathering-state") == complete, "its candidates")
        text: str = self._peer.get_property("local-description").sdp.as_text()
        return text

    def _take(self, kind: Any, sdp: str) -> None:
        result, message = GstSdp.SDPMessage.new_from_text(sdp)
        if result != GstSdp.SDPResult.OK:
            raise RuntimeError(f"the description is no SDP to GStreamer: {result.value_nick}")
        self._ask("set-remote-description", GstWebRTC.WebRTCSessionDescription.new(kind, message))

    def answer(self, sdp: str) -> None:
        self._take(GstWebRTC.WebRTCSDPType.ANSWER, sdp)

    def accept(self, sdp: str, hertz: float, level: float, video: bool = False) -> str:
        opus = re.search(r"a=rtpmap:(\d+) opus/48000", sdp, re.IGNORECASE)
        if opus is None:
            raise RuntimeError("the offer has no Opus")
        self._make(AUDIO.format(hertz=hertz, level=level, pt=opus[1]))
        self._has_data = "m=application" in sdp
        self._pipeline.set_state(Gst.State.PLAYING)
        # The section of an offer is taken by a pad of its codec: wait until there is one that says so.
        self._until(lambda: self._ready_pads() == 1, "the source to begin")
        self._take(GstWebRTC.WebRTCSDPType.OFFER, sdp)
        return self._described(self._ask("create-answer", None).get_value("answer"))

    def connected(self) -> None:
        opens = self._has_data
        self._until(
            lambda: self._state() == "connected" and (not opens or self._channel_state == "open"), "the connection"
        )

    def listen(self, seconds: float) -> str:
        size = round(seconds * RATE) * 2
        with self._changed:
            self._sound.clear()
            self._wanted = size
        self._until(lambda: len(self._sound) >= size, f"{seconds:g} s of sound")
        with self._changed:
            self._wanted = 0
            return base64.b64encode(bytes(self._sound[:size])).decode()

    def send(self, text: str | None = None, binary: str | None = None) -> None:
        if text is not None:
            self._channel.emit("send-string", text)
        else:
            self._channel.emit("send-data", GLib.Bytes.new(base64.b64decode(binary or "")))

    def receive(self) -> dict[str, str]:
        self._until(lambda: self._inbox, "a message")
        return self._inbox.popleft()

    def hang_up(self) -> None:
        self._pipeline.set_state(Gst.State.NULL)

    def wait_ended(self) -> None:
        # close_notify shows in the state of DTLS alone: the connection's stays "connected", the channel open.
        transport = self._peer.emit("get-transceiver", 0).get_property("receiver").get_property("transport")
        self._until(lambda: transport.get_property("state").value_nick == "closed", "the end")

    # -- what GStreamer's threads report -----------------------------------------------------------------------

    def _on_state(self, *_: object) -> None:
        with self._changed:
            self._changed.notify_all()

    def _on_error(self, _bus: object, message: Any) -> None:
        with self._changed:
            self._problem = " ".join(map(str, message.parse_error()))
            self._changed.notify_all()

    def _on_pad(self, _peer: object, pad: Any) -> None:
        if pad.direction != Gst.PadDirection.SRC:
            return
        branch = Gst.parse_bin_from_description(LISTEN, True)
        branch.get_by_name("sound").connect("new-sample", self._on_sample)
        self._pipeline.add(branch)
        branch.sync_state_with_parent()
        pad.link(branch.get_static_pad("sink"))

    def _on_channel(self, _peer: object, channel: Any) -> None:
        self._channel = channel
        self._watch(channel)
        if channel.get_property("ready-state").value_nick == "open":
            self._channel_state = "open"

    def _on_sample(self, sink: Any) -> Any:
        buffer = sink.emit("pull-sample").get_buffer()
        with self._changed:
            if len(self._sound) < self._wanted:
                self._sound += buffer.extract_dup(0, buffer.get_size())
                self._changed.notify_all()
        return Gst.FlowReturn.OK

    def _watch(self, channel: Any) -> None:
        def state(name: str) -> Callable[..., None]:
            def note(*_: object) -> None:
                with self._changed:
                    self._channel_state = name
                    self._changed.notify_all()

            return note

        def take(message: dict[str, str]) -> None:
            with self._changed:
                self._inbox.append(message)
                self._changed.notify_all()

        channel.connect("on-open", state("open"))
        channel.connect("on-close", state("closed"))
        channel.connect("on-message-string", lambda _channel, text: take({"text": text or ""}))
        channel.connect(
            "on-message-data",
            lambda _channel, data: take({"binary": base64.b64encode(data.get_data() if data else b"").decode()}),
        )

    # -- helpers -----------------------------------------------------------------------------------------------

    def _ready_pads(self) -> int:
        return sum(pad.get_current_caps() is not None for pad in self._peer.sinkpads)

    def _state(self) -> str:
        name: str = self._peer.get_property("connection-state").value_nick
        return name

    def _until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until `condition` holds; some of what is asked for changes without a signal.

        It is asked without our lock: reading a property takes GStreamer's, with which its threads call us.
        """
        end = time.monotonic() + PATIENCE
        while not condition():
            if self._problem is not None:
                raise RuntimeError(self._problem)
            if time.monotonic() > end:
                raise RuntimeError(f"no sign of {what} within {PATIENCE:g} s (connection {self._state()})")
            with self._changed:
                self._changed.wait(0.02)

    def _ask(self, signal: str, *arguments: Any) -> Any:
        """Emit a signal that answers by a promise; return the reply."""
        promise = Gst.Promise.new()
        self._peer.emit(signal, *arguments, promise)
        promise.wait()
        reply = promise.get_reply()
        self._replies += [promise, reply]
        if reply is not None and reply.has_field("error"):
            raise RuntimeError(f"{signal}: {reply.get_value('error')}")
        return reply


def main() -> None:
    Gst.init(None)
    threading.Thread(target=GLib.MainLoop().run, daemon=True).start()
    peer = Peer()
    commands = {
        name: getattr(peer, name)
        for name in (
            "offer",
            "answer",
            "accept",
            "connected",
            "listen",
            "send",
            "receive",
            "hang_up",
            "wait_ended",
        )
    }

    def say(**answer: object) -> None:
        print(json.dumps(answer), flush=True)

    say(id=0, result=Gst.version_string())
    for line in sys.stdin:
        command = json.loads(line)
        try:
            say(id=command["id"], result=commands[command["command"]](**command["args"]))
        except Exception as error:
            say(id=command["id"], error=str(error))


if __name__ == "__main__":
    main()
