from stack.sctp.tx.congestion import INITIAL_PACKETS, MAX_CWND, CongestionWindow
from stack.sctp.tx.rto import MAX_SACK_DELAY, RTO_INITIAL, RTO_MAX, RtoEstimator


def arrive(window: CongestionWindow, size: int, *, sent_at: float = 0.0, queue_detected: bool = True) -> None:
    """`size` bytes of a full window arrive."""
    window.acknowledged(size, window.cwnd, sent_at, queue_detected)


def test_slow_start_doubles_only_a_window_that_is_used() -> None:
    window = CongestionWindow(1000)
    assert window.cwnd == INITIAL_PACKETS * 1000
    window.acknowledged(10_000, flight_before=10_000, latest_sent_at=0.0, queue_detected=False)
    assert window.cwnd == 20_000
    window.acknowledged(5_000, flight_before=5_000, latest_sent_at=0.0, queue_detected=False)
    assert window.cwnd == 20_000


def test_with_a_queue_a_loss_halves_and_the_window_grows_by_a_packet_in_a_round_trip() -> None:
    """As RFC 9260 §7.2 has it."""
    window = CongestionWindow(1000)
    window.cwnd, window.ssthresh = 20_000, 15_000
    assert window.lost(sent_at=1.0, now=1.1, queue_detected=True)
    assert window.cwnd == window.ssthresh == 10_000
    arrive(window, 1_000, sent_at=1.2)
    before = window.cwnd
    for _ in range(before // 1000):
        arrive(window, 1_000, sent_at=1.2)
    assert before + 900 < window.cwnd <= before + 1000


def test_without_a_queue_a_loss_costs_a_tenth_and_the_window_grows_by_four_packets() -> None:
    window = CongestionWindow(1000)
    window.cwnd, window.ssthresh = 100_000, 50_000
    assert window.lost(sent_at=1.0, now=1.1, queue_detected=False)
    assert window.cwnd == window.ssthresh == 90_000
    arrive(window, 1_000, sent_at=1.2, queue_detected=False)
    before = window.cwnd
    arrive(window, before, sent_at=1.2, queue_detected=False)
    assert window.cwnd == before + 4000


def test_a_loss_in_slow_start_halves_whatever_the_path_looked_like() -> None:
    window = CongestionWindow(1000)
    arrive(window, 10_000, queue_detected=False)
    window.lost(sent_at=1.0, now=1.1, queue_detected=False)
    assert window.cwnd == 10_000


def test_the_window_narrows_once_in_a_round_trip_and_rests_for_so_long() -> None:
    window = CongestionWindow(1000)
    window.cwnd, window.ssthresh = 20_000, 15_000
    window.lost(sent_at=1.0, now=1.1, queue_detected=True)
    assert not window.lost(sent_at=1.05, now=1.15, queue_detected=True), "it was sent before the window narrowed"
    arrive(window, 3_000, sent_at=1.1)
    assert (window.cwnd, window.in_recovery) == (10_000, True)
    arrive(window, 1_000, sent_at=1.11)
    assert (window.cwnd, window.in_recovery) == (11_000, False)
    assert window.lost(sent_at=1.12, now=1.22, queue_detected=True), "the next round trip's loss counts again"


def test_one_sack_for_a_whole_window_does_not_undo_a_decrease() -> None:
    window = CongestionWindow(1000)
    window.cwnd = 100_000
    window.lost(sent_at=1.0, now=1.1, queue_detected=True)
    arrive(window, 50_000, sent_at=1.2)
    assert window.cwnd == 51_000
    window.timed_out()
    assert window.ssthresh == 25_500
    for _ in range(6):
        arrive(window, window.cwnd, sent_at=2.0)
    assert window.cwnd in range(25_500, 27_500), "slow start ends where the timeout said"


def test_a_timeout_leaves_one_packet_and_idleness_the_initial_window():
    window = CongestionWindow(1000)
    window.timed_out()
    assert (window.cwnd, window.ssthresh) == (1000, 5000)
    window.idle()
    assert window.cwnd == 1000
    window.cwnd = 64_000
    window.idle()
    assert window.cwnd == 32_000
    for _ in range(10):
        window.idle()
    assert window.cwnd == INITIAL_PACKETS * 1000


def test_it_never_grows_beyond_its_bound():
    window = CongestionWindow(1000)
    for _ in range(40):
        arrive(window, window.cwnd)
    assert window.cwnd == MAX_CWND


def test_rto_follows_the_round_trip_and_backs_off():
    rto = RtoEstimator()
    assert rto.current == RTO_INITIAL
    rto.back_off()
    assert rto.current == 2 * RTO_INITIAL
    for _ in range(50):
        rto.measured(0.1)
    assert abs(rto.current - 0.1 - MAX_SACK_DELAY) < 0.001
    for _ in range(20):
        rto.back_off()
    assert rto.current == RTO_MAX


def test_a_hint_takes_the_place_of_the_first_guess():
    rto = RtoEstimator(0.05)
    assert rto.current == 0.05 + MAX_SACK_DELAY
    assert rto.minimum_rtt == float("inf"), "but it is no measurement of ours"
    rto.measured(0.5)
    measured = rto.current
    rto.take_hint(0.05)
    assert rto.current == measured, "which counts more"


def test_a_queue_is_a_round_trip_beyond_the_shortest_one_and_the_usual_scatter() -> None:
    rto = RtoEstimator(rtt_hint=0.1)
    assert rto.queue_detected, "a hint is not a measurement of an idle path"
    for _ in range(50):
        rto.measured(0.1)
    assert not rto.queue_detected
    rto.measured(0.12)
    assert rto.queue_detected
    rto.measured(0.1)
    assert not rto.queue_detected, "it has drained"


def test_a_jittery_path_is_not_taken_for_a_queue() -> None:
    rto = RtoEstimator()
    seen = 0
    for number in range(100):
        rto.measured(0.1 + 0.012 * (number % 2))
        seen += rto.queue_detected
    assert seen == 0
