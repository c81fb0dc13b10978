import random

from stack.rtp.rtcp import TransportWideFeedback
from stack.rtp.transport_feedback import MAX_STATUSES, TransportFeedbackGenerator


def test_every_arrival_is_told_once_with_its_time() -> None:
    chance, generator = random.Random(4), TransportFeedbackGenerator()
    arrived: dict[int, float] = {}
    told: dict[int, float] = {}
    reference = None
    for sequence in range(65_400, 66_400):  # across the wrap
        now = 100.0 + (sequence - 65_400) * 0.02 + chance.uniform(0, 0.015)
        if chance.random() > 0.1:
            arrived[sequence & 0xFFFF] = now
            generator.record(sequence & 0xFFFF, now)
        if sequence % 5 == 0:
            for feedback in generator.flush(1, 2):
                parsed = TransportWideFeedback.parse(feedback.serialize())
                reference = parsed.arrivals[0][1] if reference is None else reference
                for number, (_, at) in zip(parsed.received, parsed.arrivals, strict=True):
                    told[number] = at * 250e-6
    assert set(arrived) - set(told) <= {66_399 & 0xFFFF, 66_398 & 0xFFFF, 66_397 & 0xFFFF, 66_396 & 0xFFFF}
    assert all(abs(told[number] - arrived[number]) <= 250e-6 for number in told)


def test_losses_between_two_feedbacks_belong_to_the_second() -> None:
    generator = TransportFeedbackGenerator()
    generator.record(10, 1.0)
    (first,) = generator.flush(1, 2)
    generator.record(13, 1.1)
    (second,) = generator.flush(1, 2)
    assert (first.base_sequence, first.status_count, first.feedback_count) == (10, 1, 0)
    assert (second.base_sequence, second.status_count, second.feedback_count) == (11, 3, 1)
    assert second.received == (13,)
    assert generator.flush(1, 2) == []


def test_what_was_told_as_lost_stays_so() -> None:
    generator = TransportFeedbackGenerator()
    generator.record(10, 1.0)
    generator.record(12, 1.0)
    generator.flush(1, 2)
    generator.record(11, 1.2)
    assert generator.flush(1, 2) == []


def test_arrivals_too_far_apart_go_into_two_feedbacks() -> None:
    generator = TransportFeedbackGenerator()
    generator.record(10, 1.0)
    generator.record(11, 21.0)
    feedbacks = generator.flush(1, 2)
    assert [feedback.received for feedback in feedbacks] == [(10,), (11,)]
    assert all(TransportWideFeedback.parse(feedback.serialize()).arrivals for feedback in feedbacks)


def test_what_is_collected_is_bounded() -> None:
    generator = TransportFeedbackGenerator()
    chance = random.Random(1)
    for _ in range(5000):
        generator.record(chance.randrange(0x10000), 1.0)
        assert len(generator) <= MAX_STATUSES
    assert sum(feedback.status_count for feedback in generator.flush(1, 2)) <= MAX_STATUSES
