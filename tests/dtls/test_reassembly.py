from __future__ import annotations

import tracemalloc
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.core.errors import ParseError
from stack.dtls.alerts import DtlsFailure, HandshakeFailure
from stack.dtls.reassembly import (
    MAX_AHEAD,
    MAX_BUFFERED,
    MAX_MESSAGE_LENGTH,
    MAX_RANGES,
    ByteRanges,
    Fragment,
    FragmentStatus,
    Reassembler,
)


def cut(body: bytes, seq: int, cuts: list[tuple[int, int]], kind: int = 11) -> list[Fragment]:
    return [Fragment(kind, len(body), seq, start, body[start:end]) for start, end in cuts]


@given(
    bodies=st.lists(st.binary(max_size=200), min_size=1, max_size=5),
    seed=st.integers(0, 2**32),
    piece=st.integers(1, 60),
)
def test_any_order_with_overlaps_and_duplicates_gives_the_messages(
    bodies: list[bytes], seed: int, piece: int
) -> None:
    random = Random(seed)
    fragments: list[Fragment] = []
    for seq, body in enumerate(bodies):
        cuts = [(start, min(len(body), start + piece)) for start in range(0, max(1, len(body)), piece)]
        for _ in range(3):
            start = random.randint(0, len(body))
            cuts.append((start, random.randint(start, len(body))))
        fragments += cut(body, seq, cuts)
    fragments += random.sample(fragments, len(fragments) // 2)
    random.shuffle(fragments)
    reassembler, messages = Reassembler(), []
    for fragment in fragments:
        (parsed,) = Fragment.parse_all(fragment.serialize())
        assert parsed == fragment
        reassembler.add(parsed, 0)
        while (message := reassembler.pop()) is not None:
            messages.append(message)
    assert [message.body for message in messages] == bodies
    assert [message.message_seq for message in messages] == list(range(len(bodies)))
    assert not reassembler.has_pending


def test_several_fragments_share_a_record() -> None:
    fragments = cut(b"abcdef", 3, [(0, 2), (2, 6)]) + cut(b"", 4, [(0, 0)], kind=14)
    assert list(Fragment.parse_all(b"".join(f.serialize() for f in fragments))) == fragments


@given(st.binary(max_size=60))
def test_any_bytes_are_fragments_or_a_parse_error(data: bytes) -> None:
    try:
        parsed = list(Fragment.parse_all(data))
    except ParseError:
        return
    assert b"".join(fragment.serialize() for fragment in parsed) == data


@pytest.mark.parametrize(
    ("fragment", "reason"),
    [
        (Fragment(11, 4, 0, 2, b"abc"), DtlsFailure.BAD_HANDSHAKE_RECORD),
        (Fragment(11, MAX_MESSAGE_LENGTH + 1, 0, 0, b"a"), DtlsFailure.EXCESSIVE_MESSAGE_SIZE),
        (Fragment(12, 6, 0, 2, b"ab"), DtlsFailure.FRAGMENT_MISMATCH),
        (Fragment(11, 7, 0, 2, b"ab"), DtlsFailure.FRAGMENT_MISMATCH),
    ],
)
def test_contradictions_are_failures(fragment: Fragment, reason: DtlsFailure) -> None:
    reassembler = Reassembler()
    reassembler.add(Fragment(11, 6, 0, 0, b"ab"), 0)
    with pytest.raises(HandshakeFailure) as caught:
        reassembler.add(fragment, 0)
    assert caught.value.reason is reason


def test_one_message_may_not_span_two_epochs() -> None:
    reassembler = Reassembler()
    reassembler.add(Fragment(11, 6, 0, 0, b"ab"), 0)
    with pytest.raises(HandshakeFailure):
        reassembler.add(Fragment(11, 6, 0, 2, b"cdef"), 2)


def test_messages_too_far_ahead_are_not_kept() -> None:
    reassembler = Reassembler()
    assert reassembler.add(Fragment(11, 1, MAX_AHEAD - 1, 0, b"x"), 0) is FragmentStatus.ACCEPTED
    assert reassembler.add(Fragment(11, 1, MAX_AHEAD, 0, b"x"), 0) is FragmentStatus.DISCARDED


def test_what_a_peer_may_make_us_hold_is_bounded() -> None:
    reassembler = Reassembler()
    fates = [reassembler.add(Fragment(11, MAX_MESSAGE_LENGTH, seq, 0, b"x"), 0) for seq in range(1, MAX_AHEAD)]
    assert fates.count(FragmentStatus.ACCEPTED) == 1  # two would be 128 KiB without what is noted about them
    # The message that is due is always collected.
    assert reassembler.add(Fragment(11, 2, 0, 0, b"ok"), 0) is FragmentStatus.ACCEPTED
    message = reassembler.pop()
    assert message is not None
    assert message.body == b"ok"
    assert reassembler.add(Fragment(11, 2, 0, 0, b"ok"), 0) is FragmentStatus.RETRANSMITTED


@pytest.mark.parametrize("length", [1000, 20_000, MAX_MESSAGE_LENGTH])
def test_the_notes_about_pieces_are_part_of_what_is_held(length: int) -> None:
    """One byte in two, of as many messages as are collected: what is allocated stays under the bound."""
    reassembler = Reassembler()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for seq in range(MAX_AHEAD):
        for offset in range(0, length, 2):
            reassembler.add(Fragment(11, length, seq, offset, bytes(1)), 0)
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    # The message that is due is held beyond the budget.
    assert held < MAX_BUFFERED + MAX_MESSAGE_LENGTH + 80 * MAX_RANGES


def test_a_message_in_many_pieces_still_comes_together() -> None:
    body = Random(3).randbytes(3000)
    pieces = [Fragment(11, len(body), 0, offset, body[offset : offset + 1]) for offset in range(len(body))]
    reassembler = Reassembler()
    for piece in pieces[::2]:
        reassembler.add(piece, 0)
    assert reassembler.pop() is None
    while (message := reassembler.pop()) is None:  # what was refused comes again, as the peer's flight does
        for piece in pieces:
            reassembler.add(piece, 0)
    assert message.body == body
    assert not reassembler.has_pending


@given(st.integers(0, 40), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=12))
def test_ranges_agree_with_a_set(length: int, spans: list[tuple[int, int]]) -> None:
    ranges, truth = ByteRanges(), set()
    for start, end in spans:
        if start < end:
            ranges.add(start, end)
            truth |= set(range(start, end))
    missing = {n for start, end in ranges.gaps(length) for n in range(start, end)}
    assert missing == set(range(length)) - truth
    if length:
        assert ranges.covers(length) == (not missing)
