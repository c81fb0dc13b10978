"""Sound: codecs, resampling, concealment, and the queue through which a program speaks. Docs: `docs/audio.md`."""

from stack.audio.adapt import EncoderTuner
from stack.audio.codec import (
    CodecError,
    Decoder,
    Encoder,
    OpusDecoder,
    OpusEncoder,
    Samples,
    has_lbrr,
    is_dtx,
    packet_duration,
)
from stack.audio.conceal import Concealer
from stack.audio.frame import AudioFrame, Pcm, PcmArray, to_int16
from stack.audio.g711 import G711Decoder, G711Encoder, G711Law
from stack.audio.noise import ComfortNoise
from stack.audio.playout import FRAME, Lateness, PlayoutFrame, PlayoutQueue
from stack.audio.receive import ArrivalReceiver, ClockReceiver, Receiver, ReceiveStatistics, make_receiver
from stack.audio.resample import Resampler, resample
from stack.audio.stretch import accelerate, expand
from stack.audio.wav import read_wav, write_wav

__all__ = [
    "FRAME",
    "ArrivalReceiver",
    "AudioFrame",
    "ClockReceiver",
    "CodecError",
    "ComfortNoise",
    "Concealer",
    "Decoder",
    "Encoder",
    "EncoderTuner",
    "G711Decoder",
    "G711Encoder",
    "G711Law",
    "Lateness",
    "OpusDecoder",
    "OpusEncoder",
    "Pcm",
    "PcmArray",
    "PlayoutFrame",
    "PlayoutQueue",
    "ReceiveStatistics",
    "Receiver",
    "Resampler",
    "Samples",
    "accelerate",
    "expand",
    "has_lbrr",
    "is_dtx",
    "make_receiver",
    "packet_duration",
    "read_wav",
    "resample",
    "to_int16",
    "write_wav",
]
