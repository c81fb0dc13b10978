"""How a conversation is to sound and to take turns, and the parts that are chosen by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from stack import sdp
from stack.audio import Decoder, find_codec, registered_codecs
from stack.core.errors import LocalError
from stack.dtls import Version
from stack.voice.cascade import CascadeDetector
from stack.voice.echo import EchoCanceller, KalmanEchoCanceller
from stack.voice.echo_aec3 import Aec3EchoCanceller
from stack.voice.endpointing import Endpointer, SmartTurnEndpointer
from stack.voice.noise_reduction import NoiseReducedDetector
from stack.voice.silero import SileroDetector
from stack.voice.turns import TurnSettings
from stack.voice.vad import EarshotDetector, EnergyDetector, VoiceDetector

AUTO = "auto"
_MOST_COMPLEXITY = 10
COMFORT_NOISE_RATES = (8_000, 12_000, 16_000, 24_000, 44_100, 48_000)
"""Hz, of programs that are announced by comfort noise."""


@dataclass(frozen=True, slots=True)
class ConversationConfig:
    """How a conversation sounds and how turns are taken: rates in Hz, `bitrate` in bit/s."""

    microphone_rate: int = 16_000
    jitter_buffer: str = "arrival"
    """"arrival": frames come as soon as they are there; "clock": one every 20 ms, whatever the network does."""
    playout_cost: str = "conversation"
    """What delay costs the one who hears a `clock`: "conversation" (1 % less made up is worth 30 ms of it) or
    "listening" (500 ms: a recording, captions, a lecture)."""
    bitrate: int = 24_000
    complexity: int | str = AUTO
    """What the encoder may spend: "auto" follows how busy the media are (5, down to 0), or 0 (cheapest) … 10."""
    application: str = "voip"
    """"voip" for speech, "audio" for music, "lowdelay"."""
    channels: int = 1
    """2: what the program writes in stereo leaves in stereo, to a peer that asks for it (`stereo=1`)."""
    dtx: bool | None = None
    """Leave out silence while speaking (Opus only); None: if the peer asks for it (`usedtx=1`)."""
    turns: TurnSettings = field(default_factory=TurnSettings)
    detector: str = "earshot"
    """"earshot" (neural); "auto": the same at an automatic level, and Silero (extra `hearing`) where it hears a
    voice; "energy"; or "silero:FILE" with a model file of yours and `onnxruntime`."""
    noise_reduction: str = "off"
    """"off", or "webrtc": noise is taken off in what the detector hears (the extra `noise`); what the program
    hears stays as it is."""
    endpointer: str = "rules"
    """"rules", or "smart-turn:FILE" with a model file of yours and `onnxruntime`: who ends `semantic` turns. The
    rules are part of a conversation; its host has a model asked beside it."""
    echo: str = "auto"
    """"auto": our own voice is looked for in the microphone, and cancelled where it is found; "aec3": libwebrtc's
    canceller does it (the extra `aec3`); "off"."""
    dtls_version: Version | None = None
    """Speak this version of DTLS only."""
    resume_timeout: float = 0.0
    """Seconds that a peer which has fallen silent is waited for, after `ConnectionPaused`; 0: the call ends then.
    A host gives its conversations what `HostConfig.resume_timeout` says.
    """
    dtls_in_stun: bool = True
    """Carry the DTLS handshake in ICE checks where the peer does so, too: a round trip less."""
    send_early: bool = True
    """Speak a round trip before the peer has proved who it is (DTLS 1.3 server): an attacker on the path of
    its ICE checks could hear that much, and a second (`MAX_EARLY`) at most. `Connected.authenticated` and
    `Authenticated` tell."""
    comfort_noise: int | None = None
    """Hz at which the program will speak, 8,000 … 48,000: a frame of comfort noise leaves with our Finished where
    the program has written nothing, so that the client's track is there at once. What the program says right after
    it leaves up to a frame later. None: nothing is said before the program does."""


def fixed_complexity(complexity: int | str) -> int | None:
    """Return the complexity that is fixed, None for "auto"; `LocalError` if it is neither."""
    if complexity == AUTO:
        return None
    if isinstance(complexity, int) and 0 <= complexity <= _MOST_COMPLEXITY:
        return complexity
    raise LocalError(f"complexity is auto or 0 to {_MOST_COMPLEXITY}, not {complexity!r}")


def make_decoder(codec: str, rate: int) -> Decoder:
    """Return the decoder of a negotiated codec; `LocalError` for one that is not spoken."""
    return find_codec(codec).make_decoder(rate)


def offered_codecs() -> tuple[sdp.CodecDescription, ...]:
    """Return every codec of `stack.audio.codecs` as SDP offers it, the preferred one first."""
    return tuple(
        sdp.CodecDescription(each.name, each.clock_rate, each.channels, each.parameters)
        for each in registered_codecs()
    )


def detector_factory(name: str) -> Callable[[], VoiceDetector]:
    """Return what makes a voice detector, by its name; see `ConversationConfig.detector`."""
    kind, _, model = name.partition(":")
    if name == AUTO:
        return CascadeDetector.installed
    if name == "earshot":
        return EarshotDetector
    if name == "energy":
        return EnergyDetector
    if kind == "silero" and model:
        return partial(SileroDetector, model)
    raise LocalError(f"a detector is auto, earshot, energy or silero:FILE, not {name!r}")


def hearing_factory(detector: str, noise_reduction: str = "off") -> Callable[[], VoiceDetector]:
    """Return what makes a detector behind noise reduction, by their names; see `ConversationConfig`."""
    make = detector_factory(detector)
    if noise_reduction == "off":
        return make
    if noise_reduction == "webrtc":
        return lambda: NoiseReducedDetector(make())
    raise LocalError(f"noise reduction is off or webrtc, not {noise_reduction!r}")


def canceller_factory(name: str) -> Callable[[], EchoCanceller | None]:
    """Return what makes an echo canceller, by its name; see `ConversationConfig.echo`."""
    if name == "auto":
        return KalmanEchoCanceller
    if name == "aec3":
        return Aec3EchoCanceller
    if name == "off":
        return lambda: None
    raise LocalError(f"echo is auto, aec3 or off, not {name!r}")


def make_endpointer(name: str) -> Endpointer | None:
    """Return an endpointer by its name, None for the rules; see `ConversationConfig.endpointer`."""
    kind, _, model = name.partition(":")
    if name == "rules":
        return None
    if kind == "smart-turn" and model:
        return SmartTurnEndpointer(model)
    raise LocalError(f"an endpointer is rules or smart-turn:FILE, not {name!r}")


def prepare(config: ConversationConfig) -> Endpointer | None:
    """Make each part once that is chosen by name, and return the endpointer, which all conversations share.

    So what is missing or out of bounds is said now (`LocalError`), and the first call does not load what takes
    long to load.
    """
    fixed_complexity(config.complexity)
    if config.comfort_noise is not None and config.comfort_noise not in COMFORT_NOISE_RATES:
        raise LocalError("comfort noise has one of the sample rates " + ", ".join(map(str, COMFORT_NOISE_RATES)))
    hearing_factory(config.detector, config.noise_reduction)()
    canceller_factory(config.echo)()
    return make_endpointer(config.endpointer)
