from stack.sctp.chunks import ReconfigChunk
from stack.sctp.chunks.reconfig import (
    AddOutgoingStreamsRequest,
    IncomingSsnResetRequest,
    OutgoingSsnResetRequest,
    ReconfigResponse,
    ReconfigResult,
)
from stack.sctp.reset import MAX_ATTEMPTS, MAX_STREAMS_PER_REQUEST, IncomingReset, OutgoingReset, StreamReset


def parse(wire):
    return ReconfigChunk.parse(0, wire[4 : int.from_bytes(wire[2:4], "big")]).parameters


def results(outcome):
    return [(each.sequence, each.result) for wire in outcome.replies for each in parse(wire)]


def test_a_request_is_repeated_until_it_is_answered():
    reset = StreamReset(0xFFFFFFFF, 50)
    reset.pending = {3: None, 4: None}
    wire = reset.build_request([3], 99, retry_at=1.0)
    assert parse(wire) == (OutgoingSsnResetRequest(0xFFFFFFFF, 49, 99, (3,)),)
    assert reset.build_request([4], 99, 1.0) is None, "one at a time"
    assert reset.handle_timeout(0.5, 2.0).replies == []
    assert reset.handle_timeout(1.0, 2.0).replies == [wire]
    wrong = reset.handle_chunk(ReconfigChunk((ReconfigResponse(7, ReconfigResult.PERFORMED),)), 0)
    assert wrong.done == []
    waiting = reset.handle_chunk(ReconfigChunk((ReconfigResponse(0xFFFFFFFF, ReconfigResult.IN_PROGRESS),)), 0)
    assert waiting.done == []
    done = reset.handle_chunk(ReconfigChunk((ReconfigResponse(0xFFFFFFFF, ReconfigResult.PERFORMED),)), 0)
    assert done.done == [OutgoingReset((3,))]
    assert parse(reset.build_request([4], 120, 5.0)) == (OutgoingSsnResetRequest(0, 49, 120, (4,)),), (
        "the number wraps"
    )


def test_a_peer_that_does_not_care_is_not_asked_for_ever():
    reset = StreamReset(1, 1)
    reset.pending = {3: None}
    reset.build_request([3], 9, 0.0)
    outcomes = [reset.handle_timeout(float(turn), float(turn)) for turn in range(MAX_ATTEMPTS)]
    assert outcomes[-1].done == [OutgoingReset((3,))]
    assert reset.retry_at is None
    assert not reset.pending


def test_a_request_fits_a_packet():
    reset = StreamReset(1, 1)
    reset.pending = dict.fromkeys(range(1000))
    wire = reset.build_request(list(range(1000)), 9, 0.0)
    assert len(parse(wire)[0].stream_ids) == MAX_STREAMS_PER_REQUEST
    assert len(wire) < 1000
    assert len(reset.pending) == 1000 - MAX_STREAMS_PER_REQUEST


def test_the_peers_reset_waits_for_the_data_before_it():
    reset = StreamReset(1, 10)
    request = ReconfigChunk((OutgoingSsnResetRequest(10, 0, 105, (7,)),))
    early = reset.handle_chunk(request, 100)
    assert (results(early), early.done) == ([(10, ReconfigResult.IN_PROGRESS)], [])
    assert reset.advance(104).done == []
    late = reset.advance(105)
    assert (results(late), late.done) == ([(10, ReconfigResult.PERFORMED)], [IncomingReset((7,))])
    again = reset.handle_chunk(request, 105)
    assert (results(again), again.done) == ([(10, ReconfigResult.PERFORMED)], []), "answered again, not done again"


def test_requests_out_of_sequence_and_requests_that_we_deny():
    reset = StreamReset(1, 10)
    wrong = reset.handle_chunk(ReconfigChunk((OutgoingSsnResetRequest(12, 0, 5, ()),)), 100)
    assert results(wrong) == [(12, ReconfigResult.ERROR_BAD_SEQUENCE_NUMBER)]
    denied = reset.handle_chunk(ReconfigChunk((AddOutgoingStreamsRequest(10, b"\0\5\0\0"),)), 100)
    assert results(denied) == [(10, ReconfigResult.DENIED)]


def test_the_peer_may_ask_for_a_reset_of_ours():
    reset = StreamReset(1, 10)
    outcome = reset.handle_chunk(ReconfigChunk((IncomingSsnResetRequest(10, (5, 6)),)), 100)
    assert results(outcome) == [(10, ReconfigResult.PERFORMED)]
    assert list(reset.pending) == [5, 6]
