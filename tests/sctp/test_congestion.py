import pytest

from stack.sctp.tx.congestion import INITIAL_PACKETS, MAX_CWND, CongestionWindow
from stack.sctp.tx.rto import MAX_SACK_DELAY, RTO_INITIAL, RTO_MAX, RtoEstimator


def test_slow_start_doubles_only_a_window_that_is_used():
    window = CongestionWindow(1000)
    assert window.cwnd == INITIAL_PACKETS * 1000
    window.acknowledged(10_000, flight_before=10_000, cumulative_advanced=True, idle_share=1.0)
    assert window.cwnd == 20_000
    window.acknowledged(5_000, flight_before=5_000, cumulative_advanced=True, idle_share=1.0)
    window.acknowledged(5_000, flight_before=20_000, cumulative_advanced=False, idle_share=1.0)
    assert window.cwnd == 20_000


def test_one_loss_halves_once_per_window_and_then_it_grows_by_a_packet_per_window():
    """As RFC 9260 §7.2 has it: there is a queue that takes longer than the path."""
    window = CongestionWindow(1000)
    window.acknowledged(10_000, 10_000, True, idle_share=0.4)
    assert window.lost(highest_sent=50, idle_share=0.4)
    assert not window.lost(highest_sent=60, idle_share=0.4)
    assert window.cwnd == window.ssthresh == 10_000
    window.acknowledged(3_000, 10_000, True, idle_share=0.4)
    assert window.cwnd == 10_000, "not in fast recovery"
    window.cumulative_ack(49)
    assert window.recovery_exit == 50
    window.cumulative_ack(50)
    assert window.recovery_exit is None
    window.acknowledged(1_000, 10_000, True, idle_share=0.4)
    before = window.cwnd
    window.acknowledged(before, before, True, idle_share=0.4)
    assert window.cwnd == before + 1000


@pytest.mark.parametrize(("idle_share", "left"), [(0.0, 50_000), (0.5, 50_000), (0.7, 70_000), (1.0, 80_000)])
def test_a_loss_takes_the_queue_out_of_the_window_but_a_fifth_at_least_and_half_at_most(
    idle_share: float, left: int
) -> None:
    window = CongestionWindow(1000)
    window.cwnd = 100_000
    window.lost(highest_sent=50, idle_share=idle_share)
    assert window.cwnd == window.ssthresh == left


@pytest.mark.parametrize(("idle_share", "packets"), [(0.7, 1), (0.8, 4), (1.0, 4)])
def test_where_no_queue_stands_the_window_opens_faster(idle_share: float, packets: int) -> None:
    window = CongestionWindow(1000)
    window.cwnd, window.ssthresh = 50_000, 40_000
    window.acknowledged(50_000, 50_000, True, idle_share)
    assert window.cwnd == 50_000 + packets * 1000


def test_one_sack_for_a_whole_window_does_not_undo_a_decrease() -> None:
    window = CongestionWindow(1000)
    window.cwnd = 100_000
    window.lost(highest_sent=50, idle_share=0.5)
    window.cumulative_ack(50)
    window.acknowledged(50_000, 50_000, True, idle_share=0.5)
    assert window.cwnd == 51_000
    window.timed_out()
    assert window.ssthresh == 25_500
    for _ in range(6):
        window.acknowledged(window.cwnd, window.cwnd, True, idle_share=0.5)
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
        window.acknowledged(window.cwnd, window.cwnd, True, idle_share=1.0)
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
    rto.forgive()
    assert rto.current < 0.31


def test_a_hint_takes_the_place_of_the_first_guess():
    rto = RtoEstimator(0.05)
    assert rto.current == 0.05 + MAX_SACK_DELAY
    assert rto.minimum == float("inf"), "but it is no measurement of ours"


def test_the_idle_share_is_the_shortest_round_trip_over_the_smoothed_one() -> None:
    rto = RtoEstimator(rtt_hint=0.05)
    assert rto.idle_share == 0.0, "a hint is not a measurement of an idle path"
    rto.measured(0.05)
    assert rto.idle_share == pytest.approx(1.0)
    for _ in range(100):
        rto.measured(0.1)
    assert rto.idle_share == pytest.approx(0.5)
