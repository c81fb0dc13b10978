"""Parts that are chosen by name."""

import sys
from functools import partial

import pytest

from stack.audio import G711Decoder, OpusDecoder
from stack.core.errors import LocalError
from stack.sdp import OPUS, PCMA, PCMU
from stack.voice.config import (
    ConversationConfig,
    canceller_factory,
    detector_factory,
    fixed_complexity,
    hearing_factory,
    make_decoder,
    make_endpointer,
    offered_codecs,
    prepare,
)
from stack.voice.echo import KalmanEchoCanceller
from stack.voice.endpointing import SmartTurnEndpointer
from stack.voice.vad import EarshotDetector, EnergyDetector
from tests.voice.conftest import Runtime


def test_names_choose_parts() -> None:
    assert isinstance(make_decoder("opus", 16_000), OpusDecoder)
    assert isinstance(make_decoder("pcma", 16_000), G711Decoder)
    assert isinstance(detector_factory("earshot")(), EarshotDetector)
    assert isinstance(detector_factory("energy")(), EnergyDetector)
    assert isinstance(canceller_factory("auto")(), KalmanEchoCanceller)
    assert canceller_factory("off")() is None
    assert hearing_factory("energy") is detector_factory("energy")
    assert make_endpointer("rules") is None


def test_what_is_offered_is_what_can_be_decoded() -> None:
    offered = offered_codecs()
    assert offered[:3] == (OPUS, PCMU, PCMA)
    for codec in offered:
        assert make_decoder(codec.encoding.lower(), 16_000).clock_rate == codec.clock_rate


def test_what_is_chosen_is_made_before_the_first_call(runtime: Runtime) -> None:
    assert prepare(ConversationConfig()) is None
    runtime.inputs = {"input_features": [1, 80, 800]}
    model = runtime.file("smart-turn.onnx")
    assert isinstance(prepare(ConversationConfig(endpointer=f"smart-turn:{model}")), SmartTurnEndpointer)
    assert runtime.loaded == [model]
    for config in (
        ConversationConfig(endpointer="smart-turn:no.onnx"),
        ConversationConfig(detector="silero:no.onnx"),
    ):
        with pytest.raises(LocalError, match=r"there is no file no\.onnx"):
            prepare(config)


def test_noise_reduction_that_is_not_installed_is_said_before_the_first_call(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "webrtc_noise_gain", None)
    with pytest.raises(LocalError, match=r"voice-stack\[noise\]"):
        prepare(ConversationConfig(noise_reduction="webrtc"))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (detector_factory, "nobody"),
        (detector_factory, "silero:"),
        (partial(hearing_factory, "auto"), "much"),
        (canceller_factory, "maybe"),
        (make_endpointer, "smart-turn:"),
        (make_endpointer, "smart"),
    ],
)
def test_a_wrong_name_is_one_clear_error(make, name: str) -> None:
    with pytest.raises(LocalError, match=f"not '{name}'"):
        make(name)


def test_complexity_is_fixed_or_follows_the_load() -> None:
    assert [fixed_complexity(each) for each in ("auto", 0, 5, 10)] == [None, 0, 5, 10]
    for wrong in (-1, 11, "five"):
        with pytest.raises(LocalError, match="complexity is auto or 0 to 10, not"):
            prepare(ConversationConfig(complexity=wrong))
