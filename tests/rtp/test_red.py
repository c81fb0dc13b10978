import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.core.errors import LocalError, ParseError
from stack.rtp.red import (
    MAX_BLOCKS,
    MAX_DEPTH,
    MAX_PAYLOAD,
    STEP_DOWN_AFTER,
    RedBlock,
    RedDepth,
    RedEncoder,
    RedPayload,
)

blocks = st.builds(RedBlock, st.integers(0, 127), st.integers(0, 0x3FFF), st.binary(max_size=60))
payloads = st.builds(
    RedPayload,
    st.integers(0, 127),
    st.binary(max_size=60),
    st.lists(blocks, max_size=MAX_BLOCKS).map(tuple),
)


def test_by_hand() -> None:
    """RFC 2198 §3: 1|PT|offset|length for the older block, 0|PT for the primary."""
    data = bytes.fromhex("ef0f0003 6f") + b"old" + b"new!"
    payload = RedPayload(111, b"new!", (RedBlock(111, 960, b"old"),))
    assert RedPayload.parse(data) == payload
    assert payload.serialize() == data


@given(payloads)
def test_what_is_written_is_read(payload: RedPayload) -> None:
    assert RedPayload.parse(payload.serialize()) == payload


@given(st.binary(max_size=60))
def test_hostile_bytes(data: bytes) -> None:
    try:
        payload = RedPayload.parse(data)
    except ParseError:
        return
    assert payload.serialize() == data


@pytest.mark.parametrize(
    "data", ["", "ef", "ef0f00", "ef0f0003", "ef0f00036f6f6c", "ef0f0000" * (MAX_BLOCKS + 1) + "6f"]
)
def test_malformed(data: str) -> None:
    with pytest.raises(ParseError):
        RedPayload.parse(bytes.fromhex(data))


def test_a_block_that_does_not_fit_is_our_own_fault() -> None:
    with pytest.raises(LocalError):
        RedPayload(111, b"", (RedBlock(111, 0x4000, b""),)).serialize()
    with pytest.raises(LocalError):
        RedPayload(111, b"", (RedBlock(111, 1, bytes(1024)),)).serialize()


def test_the_encoder_repeats_the_frames_before() -> None:
    encoder = RedEncoder()
    times = [0xFFFFFF00 + 960 * n & 0xFFFFFFFF for n in range(6)]  # across the wrap
    frames = [encoder.encode(111, times[n], bytes([n]), MAX_DEPTH) for n in range(4)]
    assert [frame.payload for frame in frames] == [b"\0", b"\1", b"\2", b"\3"]
    assert [frame.redundant for frame in frames[:2]] == [(), (RedBlock(111, 960, b"\0"),)]
    assert frames[3].redundant == (RedBlock(111, 1920, b"\1"), RedBlock(111, 960, b"\2"))
    assert encoder.encode(111, times[4], b"\4", 1).redundant == (RedBlock(111, 960, b"\3"),)
    assert encoder.encode(111, times[5], b"\5", 0).redundant == ()


def test_a_block_that_is_left_out_ends_the_run() -> None:
    encoder = RedEncoder()
    encoder.encode(111, 0, b"old", MAX_DEPTH)
    after_silence = encoder.encode(111, 48000, b"after a second", MAX_DEPTH)
    assert after_silence.redundant == ()  # 48000 does not fit 14 bits
    assert encoder.encode(111, 48960, b"next", MAX_DEPTH).redundant == (RedBlock(111, 960, b"after a second"),)
    encoder.encode(111, 49920, bytes(1024), MAX_DEPTH)  # too long for a length field
    assert encoder.encode(111, 50880, b"x", MAX_DEPTH).redundant == ()


def test_a_packet_with_redundancy_still_fits_the_path() -> None:
    encoder = RedEncoder()
    for n in range(5):
        red = encoder.encode(111, 960 * n, bytes(500), MAX_DEPTH)
        assert len(red.serialize()) <= MAX_PAYLOAD + 1
    assert len(red.redundant) == 1


def test_the_encoder_forgets_when_told() -> None:
    encoder = RedEncoder()
    encoder.encode(111, 0, b"a", 2)
    encoder.clear()
    assert encoder.encode(111, 960, b"b", 2).redundant == ()


def test_the_depth_follows_loss_up_at_once_and_down_slowly() -> None:
    chooser = RedDepth()
    assert chooser.depth == 1
    assert chooser.update(0.1, 0.0) == 2
    assert chooser.update(0.05, 1.0) == 2
    assert chooser.update(0.0, 2.0) == 2
    assert chooser.update(0.0, 2.0 + STEP_DOWN_AFTER) == 1
    assert chooser.update(0.0, 3.0 + STEP_DOWN_AFTER) == 1
    assert chooser.update(0.0, 2.0 + 2 * STEP_DOWN_AFTER) == 0
    assert chooser.update(0.005, 30.0) == 0
    assert chooser.update(0.02, 31.0) == 1


def test_one_bad_report_breaks_the_calm() -> None:
    chooser = RedDepth()
    chooser.update(0.0, 0.0)
    chooser.update(0.005, 9.0)
    assert chooser.update(0.0, STEP_DOWN_AFTER) == 1
    assert chooser.update(0.0, 2 * STEP_DOWN_AFTER) == 0
