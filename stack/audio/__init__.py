"""Sound: codecs, resampling, concealment, and the queue through which a program speaks. Docs: `docs/audio.md`."""

from stack.audio.adapt import COMPLEXITIES, AdaptiveEncoder, ComplexityByLoad, EncoderTuner
from stack.audio.codec import Codec, CodecError, Decoder, Encoder, EncoderSettings, Samples, register_codec
from stack.audio.codecs import find_codec, registered_codecs
from stack.audio.codecs.g711 import G711Decoder, G711Encoder, G711Law
from stack.audio.codecs.opus import SAMPLE_RATES as OPUS_SAMPLE_RATES
from stack.audio.codecs.opus import OpusDecoder, OpusEncoder, has_lbrr, is_dtx, packet_duration
from stack.audio.conceal import Concealer
from stack.audio.frame import AudioFrame, ByteStream, Pcm, PcmArray, check_sample_rate, to_int16
from stack.audio.noise import ComfortNoise
from stack.audio.playout import FRAME, Lateness, PlayoutFrame, PlayoutQueue
from stack.audio.receive import ArrivalReceiver, ClockReceiver, Receiver, ReceiveStatistics, make_receiver
from stack.audio.resample import Resampler, resample
from stack.audio.stretch import accelerate, expand
from stack.audio.wav import read_wav, write_wav

__all__ = [
    "COMPLEXITIES",
    "FRAME",
    "OPUS_SAMPLE_RATES",
    "AdaptiveEncoder",
    "ArrivalReceiver",
    "AudioFrame",
    "ByteStream",
    "ClockReceiver",
    "Codec",
    "CodecError",
    "ComfortNoise",
    "ComplexityByLoad",
    "Concealer",
    "Decoder",
    "Encoder",
    "EncoderSettings",
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
    "check_sample_rate",
    "expand",
    "find_codec",
    "has_lbrr",
    "is_dtx",
    "make_receiver",
    "packet_duration",
    "read_wav",
    "register_codec",
    "registered_codecs",
    "resample",
    "to_int16",
    "write_wav",
]
