from stack.rtp.loss import FEEDBACK_FRESH, FEEDBACK_WINDOW, LossEstimate
from stack.rtp.rtcp import TransportWideFeedback


def feedback(total: int, lost: int) -> TransportWideFeedback:
    return TransportWideFeedback(1, 2, 0, total, 0, tuple((offset, 0) for offset in range(lost, total)))


def test_reports_are_believed_faster_when_they_are_worse() -> None:
    estimate = LossEstimate()
    assert estimate.at(0.0) == 0.0
    estimate.handle_fraction(0.2)
    up = estimate.at(0.0)
    estimate.handle_fraction(0.0)
    assert 0.1 <= up <= 0.2
    assert up / 2 < estimate.at(0.0) < up


def test_fresh_feedback_comes_before_reports() -> None:
    estimate = LossEstimate()
    estimate.handle_fraction(0.5)
    estimate.handle_feedback(feedback(5, 0), 1.0)
    assert estimate.at(1.0) > 0.2  # too few packets to say anything
    for _ in range(10):
        estimate.handle_feedback(feedback(5, 1), 1.0)
    assert estimate.at(1.0) == 10 / 55
    assert estimate.at(1.0 + FEEDBACK_FRESH) > 0.2


def test_the_window_is_bounded_and_follows() -> None:
    estimate = LossEstimate()
    for _ in range(1000):
        estimate.handle_feedback(feedback(5, 5), 1.0)
    assert estimate.at(1.0) == 1.0
    for _ in range(FEEDBACK_WINDOW // 5):
        estimate.handle_feedback(feedback(5, 0), 2.0)
    assert estimate.at(2.0) == 0.0
    estimate.handle_feedback(feedback(60_000, 59_000), 2.0)
    assert estimate.at(2.0) == 0.0
