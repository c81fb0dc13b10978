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
    mute {muted}                  send silence instead of the sine, or the sine again
    trickle {candidates}          take candidates that come after the offer
    open {label, init}            open a channel; `init` has the names of RTCDataChannelInit
    channel {label}               wait until it is open; what it says of itself
    close {label}, closed {label} close a channel; wait until it is closed

`offer` and `accept` know `codec` (PCMU, PCMA) and `ptime`, `offer` also `audio_sections` and `bundle`; `send` and
`receive` take a `label`.
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

SOURCE = (
    "audiotestsrc name={name} is-live=true wave=sine freq={hertz} volume={level} ! "
    "audio/x-raw,rate={rate},channels=1 ! {encoder} ! application/x-rtp,media=audio,encoding-name={codec},"
    "payload={pt},clock-rate={rate}{parameters} ! peer. "
)
ENCODERS = {
    "OPUS": "opusenc frame-size={ptime} ! rtpopuspay pt={pt}",
    "PCMU": "mulawenc ! rtppcmupay pt={pt} max-ptime={nanoseconds} min-ptime={nanoseconds}",
    "PCMA": "alawenc ! rtppcmapay pt={pt} max-ptime={nanoseconds} min-ptime={nanoseconds}",
}
DECODERS = {
    "OPUS": "rtpopusdepay ! opusdec",
    "PCMU": "rtppcmudepay ! mulawdec",
    "PCMA": "rtppcmadepay ! alawdec",
}
STATIC = {"PCMU": 0, "PCMA": 8}
"""Payload types (RFC 3551 §6)."""
CHANNEL_OPTIONS = {
    "ordered": "ordered",
    "protocol": "protocol",
    "maxRetransmits": "max-retransmits",
    "maxPacketLifeTime": "max-packet-lifetime",
    "negotiated": "negotiated",
    "id": "id",
}
"""GStreamer's names for those of RTCDataChannelInit."""
VIDEO = (
    "videotestsrc is-live=true ! video/x-raw,width=160,height=120,framerate=5/1 ! vp8enc deadline=1 ! "
    "rtpvp8pay pt=96 ! application/x-rtp,media=video,encoding-name=VP8,payload=96,clock-rate=90000 ! peer. "
)
LISTEN = (
    " ! audioconvert ! audioresample ! audio/x-raw,format=S16LE,rate=48000,channels=1 ! "
    "appsink name=sound emit-signals=true sync=false"
)


def source(
    hertz: float, level: float, pt: int | str, codec: str = "OPUS", ptime: int = 20, name: str = "tone"
) -> str:
    """A sine on its way to the peer."""
    rate = RATE if codec == "OPUS" else 8_000
    encoder = ENCODERS[codec].format(pt=pt, ptime=ptime, nanoseconds=ptime * 1_000_000)
    parameters = ",encoding-params=(string)2" if codec == "OPUS" else ""
    return SOURCE.format(
        name=name,
        hertz=hertz,
        level=level,
        rate=rate,
        encoder=encoder,
        codec=codec,
        pt=pt,
        parameters=parameters,
    )


class Held:
    """A channel, what it received, and how far it is: "none", "open", "closed"."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.inbox: deque[dict[str, str]] = deque()
        self.state = "none"


class Peer:
    """One call. What GStreamer's threads report is kept under one lock."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._problem: str | None = None
        self._sound = bytearray()
        self._wanted = 0
        self._channels: dict[str, Held] = {}  # by their labels; the newest of its name
        self._replies: list[Any] = []  # freed early by the bindings, a promise's reply takes its contents with it

    # -- commands ----------------------------------------------------------------------------------------------

    def _make(self, sources: str, bundle: str = "max-bundle") -> None:
        self._pipeline = Gst.parse_launch(f"webrtcbin name=peer bundle-policy={bundle} {sources}")
        self._peer = self._pipeline.get_by_name("peer")
        self._peer.connect("pad-added", self._on_pad)
        # Before anything happens to it: a channel that is opened in mid-call may open at once.
        self._peer.connect("prepare-data-channel", self._on_prepared)
        self._peer.connect("on-data-channel", self._on_channel)
        for name in ("connection-state", "ice-connection-state", "ice-gathering-state"):
            self._peer.connect(f"notify::{name}", self._on_state)
        bus = self._pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", self._on_error)

    def offer(
        self,
        hertz: float,
        level: float,
        video: bool = False,
        data: bool = True,
        codec: str = "OPUS",
        ptime: int = 20,
        audio_sections: int = 1,
        bundle: str = "max-bundle",
        ip: int = 4,  # it gathers both
    ) -> str:
        pt = STATIC.get(codec, 111)
        sounds = [source(hertz, level, pt, codec, ptime)]
        sounds += [source(hertz, 0, pt, codec, ptime, f"further{n}") for n in range(1, audio_sections)]
        self._level = level
        self._make("".join(sounds) + (VIDEO if video else ""), bundle)
        self._has_data = data
        if data:
            self._pipeline.set_state(Gst.State.READY)
            self._peer.emit("create-data-channel", "trial", None)
        self._pipeline.set_state(Gst.State.PLAYING)
        # Its offer has a section for each pad that has caps: wait until sound, and pictures, have begun.
        sections = len(sounds) + video
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

    def accept(
        self,
        sdp: str,
        hertz: float,
        level: float,
        video: bool = False,
        codec: str = "OPUS",
        ptime: int = 20,
        ip: int = 4,
    ) -> str:
        opus = re.search(r"a=rtpmap:(\d+) opus/48000", sdp, re.IGNORECASE)
        if opus is None and codec == "OPUS":
            raise RuntimeError("the offer has no Opus")
        self._level = level
        self._make(source(hertz, level, STATIC.get(codec) if opus is None else opus[1], codec, ptime))
        self._has_data = "m=application" in sdp
        self._pipeline.set_state(Gst.State.PLAYING)
        # The section of an offer is taken by a pad of its codec: wait until there is one that says so.
        self._until(lambda: self._ready_pads() == 1, "the source to begin")
        self._take(GstWebRTC.WebRTCSDPType.OFFER, sdp)
        return self._described(self._ask("create-answer", None).get_value("answer"))

    def connected(self) -> None:
        self._until(lambda: self._state() == "connected", "the connection")
        if self._has_data:
            self._open("trial")

    def _open(self, label: str) -> Any:
        self._until(lambda: label in self._channels and self._channels[label].state == "open", f"channel {label}")
        return self._channels[label].channel

    def mute(self, muted: bool) -> None:
        self._pipeline.get_by_name("tone").set_property("volume", 0.0 if muted else self._level)

    def trickle(self, candidates: list[str]) -> None:
        for candidate in candidates:
            self._peer.emit("add-ice-candidate", 0, candidate)

    def open(self, label: str, init: dict[str, Any]) -> None:
        options = Gst.Structure.new_empty("options")
        for name, value in init.items():
            options.set_value(CHANNEL_OPTIONS[name], value)
        channel = self._peer.emit("create-data-channel", label, options)
        if channel is None:
            limit = self._peer.get_property("sctp-transport").get_property("max-channels")
            raise RuntimeError(f"no channel is made with {init}: it takes streams up to {limit}")
        self._open(label)

    def channel(self, label: str) -> dict[str, Any]:
        channel = self._open(label)
        told = {name: channel.get_property(option) for name, option in CHANNEL_OPTIONS.items()}
        for name in ("maxRetransmits", "maxPacketLifeTime"):
            told[name] = None if told[name] == -1 else told[name]
        return told

    def close(self, label: str) -> None:
        self._channels[label].channel.emit("close")

    def closed(self, label: str) -> None:
        self._until(lambda: self._channels[label].state == "closed", f"the end of channel {label}")

    def listen(self, seconds: float) -> str:
        size = round(seconds * RATE) * 2
        with self._changed:
            self._sound.clear()
            self._wanted = size
        self._until(lambda: len(self._sound) >= size, f"{seconds:g} s of sound", seconds + 8)
        with self._changed:
            self._wanted = 0
            return base64.b64encode(bytes(self._sound[:size])).decode()

    def send(self, text: str | None = None, binary: str | None = None, label: str = "trial") -> None:
        channel = self._channels[label].channel
        if text is not None:
            channel.emit("send-string", text)
        else:
            channel.emit("send-data", GLib.Bytes.new(base64.b64decode(binary or "")))

    def receive(self, label: str = "trial") -> dict[str, str]:
        self._until(lambda: label in self._channels and self._channels[label].inbox, "a message")
        return self._channels[label].inbox.popleft()

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
        caps = pad.get_current_caps() or pad.query_caps(None)
        codec = caps.get_structure(0).get_string("encoding-name") or "OPUS"
        if codec not in DECODERS:
            return
        branch = Gst.parse_bin_from_description(DECODERS[codec] + LISTEN, True)
        branch.get_by_name("sound").connect("new-sample", self._on_sample)
        self._pipeline.add(branch)
        branch.sync_state_with_parent()
        pad.link(branch.get_static_pad("sink"))

    def _on_prepared(self, _peer: object, channel: Any, is_local: bool) -> None:
        if is_local:
            self._watch(channel)

    def _on_channel(self, _peer: object, channel: Any) -> None:
        self._watch(channel)
        # A channel of our own has no state before it is on its way: the bindings fall over it.
        if channel.get_property("ready-state").value_nick == "open":
            with self._changed:
                self._channels[channel.get_property("label")].state = "open"
                self._changed.notify_all()

    def _on_sample(self, sink: Any) -> Any:
        buffer = sink.emit("pull-sample").get_buffer()
        with self._changed:
            if len(self._sound) < self._wanted:
                self._sound += buffer.extract_dup(0, buffer.get_size())
                self._changed.notify_all()
        return Gst.FlowReturn.OK

    def _watch(self, channel: Any) -> None:
        held = self._channels[channel.get_property("label")] = Held(channel)

        def state(name: str) -> Callable[..., None]:
            def note(*_: object) -> None:
                with self._changed:
                    held.state = name
                    self._changed.notify_all()

            return note

        def take(message: dict[str, str]) -> None:
            with self._changed:
                held.inbox.append(message)
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

    def _until(self, condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
        """Wait until `condition` holds; some of what is asked for changes without a signal.

        It is asked without our lock: reading a property takes GStreamer's, with which its threads call us.
        """
        end = time.monotonic() + patience
        while not condition():
            if self._problem is not None:
                raise RuntimeError(self._problem)
            if time.monotonic() > end:
                raise RuntimeError(f"no sign of {what} within {patience:g} s (connection {self._state()})")
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
    names = "offer answer accept connected listen send receive hang_up wait_ended"
    names += " mute trickle open channel close closed"
    commands = {name: getattr(peer, name) for name in names.split()}

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
