from hypothesis import given
from hypothesis import strategies as st

from stack.sctp.tx.queue import QueuedMessage, SendQueue


def push(queue, stream_id, size, expires_at=None, priority=256):
    stream = queue.stream(stream_id)
    stream.priority = priority
    message = QueuedMessage(stream, bytes(size), 51, False, None, expires_at)
    queue.push(message)
    return message


def drain(queue, chunk=100, now=0.0):
    """Take everything in chunks; return the stream of each."""
    order = []
    while (message := queue.peek(now)) is not None:
        queue.sent(message, min(chunk, len(message.payload) - message.offset))
        order.append(message.stream.stream_id)
    return order


def test_messages_stay_whole_unless_they_may_interleave():
    for interleaving, expected in ((False, [0, 0, 0, 1, 1, 1]), (True, [0, 1, 0, 1, 0, 1])):
        queue = SendQueue()
        queue.interleaving = interleaving
        push(queue, 0, 300)
        push(queue, 1, 300)
        assert drain(queue) == expected


def test_a_stream_that_wakes_up_goes_next_but_owes_nobody():
    queue = SendQueue()
    queue.interleaving = True
    push(queue, 0, 10_000)
    for _ in range(50):
        queue.sent(queue.peek(0.0), 100)
    push(queue, 1, 300)
    assert drain(queue)[:6].count(1) == 3


def test_weights():
    queue = SendQueue()
    queue.interleaving = True
    push(queue, 0, 10_000, priority=256)
    push(queue, 1, 10_000, priority=1024)
    first = drain(queue)[:50]
    assert 38 <= first.count(1) <= 42


def test_what_expired_before_it_began_is_dropped():
    queue = SendQueue()
    push(queue, 0, 100, expires_at=1.0)
    push(queue, 0, 200)
    assert len(queue.peek(1.0).payload) == 200
    assert queue.buffered == 200


@given(
    st.booleans(),
    st.lists(st.tuples(st.sampled_from("psd"), st.integers(0, 3), st.integers(1, 500)), max_size=60),
)
def test_counts_are_right_whatever_happens(interleaving, steps):
    queue = SendQueue()
    queue.interleaving = interleaving
    waiting = []
    for step, stream_id, size in steps:
        if step == "p":
            waiting.append(push(queue, stream_id, size))
        elif step == "s" and (message := queue.peek(0.0)) is not None:
            queue.sent(message, min(size, len(message.payload) - message.offset))
        elif step == "d" and waiting:
            message = waiting[size % len(waiting)]
            if message.payload:
                queue.drop(message)
        left = [message for message in waiting if message.payload]
        assert queue.buffered == sum(len(message.payload) - message.offset for message in left)
        assert bool(queue) is bool(left)
        for number, stream in queue.streams.items():
            assert stream.buffered == sum(
                len(message.payload) - message.offset for message in left if message.stream.stream_id == number
            )
    drain(queue)
    assert not queue
    assert queue.buffered == 0
