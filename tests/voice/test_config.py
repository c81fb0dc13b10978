"""Parts that are chosen by name."""

import pytest

from stack.audio import G711Decoder, OpusDecoder
from stack.core.errors import LocalError
from stack.voice.config import make_canceller, make_decoder, make_detector
from stack.voice.echo import KalmanEchoCanceller
from stack.voice.vad import EarshotDetector, EnergyDetector


def test_names_choose_parts() -> None:
    assert isinstance(make_decoder("opus", 16_000), OpusDecoder)
    assert isinstance(make_decoder("pcma", 16_000), G711Decoder)
    assert isinstance(make_detector("earshot"), EarshotDetector)
    assert isinstance(make_detector("energy"), EnergyDetector)
    assert isinstance(make_canceller("auto"), KalmanEchoCanceller)
    assert make_canceller("off") is None


@pytest.mark.parametrize(
    ("make", "name"), [(make_detector, "nobody"), (make_detector, "silero:"), (make_canceller, "maybe")]
)
def test_a_wrong_name_is_one_clear_error(make, name: str) -> None:
    with pytest.raises(LocalError, match=f"not '{name}'"):
        make(name)
