import random

from hypothesis import given
from hypothesis import strategies as st

from stack.sctp.chunks import DataChunk, IDataChunk, Skip
from stack.sctp.chunks.data import FLAG_BEGIN, FLAG_END, FLAG_UNORDERED
from stack.sctp.rx.reassembly import Reassembly

PLANS = st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.integers(1, 5)), min_size=1, max_size=12)


def fragments(plan, interleaving, first_ssn=0):
    """Chunks of messages as (stream, unordered, fragment count), with TSNs in a row from 1000."""
    tsn, sequences, chunks, messages = 1000, {}, [], []
    for number, (stream, unordered, count) in enumerate(plan):
        key = (stream, unordered) if interleaving else stream
        sequence = sequences.setdefault(key, first_ssn)
        if interleaving or not unordered:
            sequences[key] = (sequence + 1) & (0xFFFFFFFF if interleaving else 0xFFFF)
        pieces = [f"{number}.{piece};".encode() for piece in range(count)]
        messages.append((stream, unordered, b"".join(pieces)))
        for piece, payload in enumerate(pieces):
            flags = FLAG_UNORDERED * unordered | FLAG_BEGIN * (piece == 0) | FLAG_END * (piece == count - 1)
            if interleaving:
                ppid = 51 if piece == 0 else 0
                chunks.append((IDataChunk(flags, tsn, stream, sequence, ppid, piece, payload), tsn))
            else:
                chunks.append((DataChunk(flags, tsn, stream, sequence, 51, payload), tsn))
            tsn += 1
    return chunks, messages


def feed(reassembly, chunks):
    for chunk, tsn in chunks:
        if isinstance(chunk, DataChunk):
            reassembly.add_data(chunk, tsn)
        else:
            reassembly.add_i_data(chunk, tsn)


@given(PLANS, st.booleans(), st.randoms(use_true_random=False))
def test_any_order_of_arrival(plan, interleaving, order):
    chunks, messages = fragments(plan, interleaving)
    order.shuffle(chunks)
    reassembly = Reassembly(10_000, interleaving)
    feed(reassembly, chunks)
    got = [(message.stream_id, message.data) for message in reassembly.delivered]
    assert sorted(got) == sorted((stream, data) for stream, _, data in messages)
    assert {message.ppid for message in reassembly.delivered} == {51}
    for stream in range(3):
        ordered = [data for at, unordered, data in messages if at == stream and not unordered]
        assert [data for at, data in got if at == stream and data in ordered] == ordered
    assert reassembly.buffered == 0
    assert not reassembly._streams


@given(PLANS, st.booleans(), st.integers(0, 40), st.randoms(use_true_random=False))
def test_what_is_given_up_leaves_nothing_behind(plan, interleaving, arrived, order):
    chunks, messages = fragments(plan, interleaving)
    last = {}
    for chunk, _ in chunks:
        unordered = bool(chunk.flags & FLAG_UNORDERED)
        if interleaving:
            last[(chunk.stream_id, unordered)] = chunk.mid
        elif not unordered:
            last[(chunk.stream_id, False)] = chunk.ssn
    order.shuffle(chunks)
    reassembly = Reassembly(10_000, interleaving)
    feed(reassembly, chunks[:arrived])
    skips = [Skip(stream, sequence, unordered) for (stream, unordered), sequence in last.items()]
    reassembly.skip(max(tsn for _, tsn in chunks), skips)
    assert reassembly.buffered == 0
    assert not reassembly._streams
    assert {message.data for message in reassembly.delivered} <= {data for _, _, data in messages}
    feed(reassembly, chunks[arrived:])
    ordered = [message.data for message in reassembly.delivered]
    assert len(ordered) == len(set(ordered)), "nothing twice"


def test_restart_forgets_what_was_unfinished():
    reassembly = Reassembly(10_000)
    chunks, _ = fragments([(0, False, 3), (1, True, 3), (0, False, 1)], False)
    random.Random(1).shuffle(chunks)
    feed(reassembly, [entry for entry in chunks if not entry[0].flags & FLAG_BEGIN])
    assert reassembly.buffered > 0
    reassembly.restart_streams(None)
    assert reassembly.buffered == 0
    feed(reassembly, fragments([(0, False, 1)], False)[0])
    assert len(reassembly.delivered) == 1
