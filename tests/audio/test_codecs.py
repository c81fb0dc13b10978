"""The table of codecs: one object says all that a call has to know of a codec."""

from __future__ import annotations

import numpy as np
import pytest

from stack.audio import AdaptiveEncoder, Codec, EncoderSettings, find_codec, register_codec, registered_codecs
from stack.audio.codec import CODECS
from stack.core.errors import LocalError


def test_the_preferred_one_comes_first_and_names_have_no_case() -> None:
    assert [each.name for each in registered_codecs()][:3] == ["opus", "PCMU", "PCMA"]
    assert find_codec("OPUS") is find_codec("opus")
    with pytest.raises(LocalError, match="no codec speex"):
        find_codec("speex")


@pytest.mark.parametrize("each", registered_codecs(), ids=lambda each: each.name)
def test_every_codec_decodes_what_it_encodes(each: Codec) -> None:
    encoder = each.make_encoder(EncoderSettings(16_000))
    decoder = each.make_decoder(16_000)
    assert encoder.clock_rate == decoder.clock_rate == each.clock_rate
    tone = (8_000 * np.sin(np.arange(encoder.sample_rate // 50 * 10) * 0.2)).astype(np.int16)
    heard = [decoder.decode(encoder.encode(frame)) for frame in np.split(tone, 10)]
    assert {len(frame) for frame in heard} == {320}
    assert np.abs(np.concatenate(heard)).max() > 4_000
    assert not encoder.is_silence(encoder.encode(tone[: encoder.sample_rate // 50]))
    assert 0 <= encoder.lookahead < encoder.sample_rate // 50
    encoder.reset()


def test_the_rate_of_an_encoder_follows_what_is_written_and_what_the_peer_uses() -> None:
    opus = find_codec("opus")
    assert isinstance(opus.make_encoder(EncoderSettings(8_000)), AdaptiveEncoder)
    assert not isinstance(find_codec("pcmu").make_encoder(EncoderSettings(8_000)), AdaptiveEncoder)
    rates = [(22_050, 48_000), (24_000, 16_000), (96_000, 48_000)]
    encoders = [opus.make_encoder(EncoderSettings(rate, most)) for rate, most in rates]
    assert [encoder.sample_rate for encoder in encoders] == [24_000, 16_000, 48_000]


def test_a_new_codec_is_one_object() -> None:
    """With the coding of PCMU and a name of its own."""
    pcmu = find_codec("pcmu")
    new = register_codec(Codec("X-TEST", 8_000, 1, pcmu.make_decoder, pcmu.make_encoder))
    try:
        assert registered_codecs()[-1] is new
        assert find_codec("x-test") is new
        with pytest.raises(LocalError, match="registered already"):
            register_codec(new)
    finally:
        del CODECS["x-test"]
