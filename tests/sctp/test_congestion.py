from stack.sctp.tx.congestion import INITIAL_PACKETS, MAX_CWND, CongestionWindow
from stack.sctp.tx.rto import MAX_SACK_DELAY, RTO_INITIAL, RTO_MAX, RtoEstimator


def test_slow_start_doubles_only_a_window_that_is_used():
    window = CongestionWindow(1000)
    assert window.cwnd == INITIAL_PACKETS * 1000
    window.acknowledged(10_000, flight_before=10_000, cumulative_advanced=True)
    assert window.cwnd == 20_000
    window.acknowledged(5_000, flight_before=5_000, cumulative_advanced=True)
    window.acknowledged(5_000, flight_before=20_000, cumulative_advanced=False)
    assert window.cwnd == 20_000


def test_one_loss_halves_once_per_window_and_then_it_grows_by_a_packet_per_window():
    window = CongestionWindow(1000)
    window.acknowledged(10_000, 10_000, True)
    assert window.lost(highest_sent=50)
    assert not window.lost(highest_sent=60)
    assert window.cwnd == window.ssthresh == 10_000
    window.acknowledged(3_000, 10_000, True)
    assert window.cwnd == 10_000, "not in fast recovery"
    window.cumulative_ack(49)
    assert window.recovery_exit == 50
    window.cumulative_ack(50)
    assert window.recovery_exit is None
    window.acknowledged(1_000, 10_000, True)
    before = window.cwnd
    window.acknowledged(before, before, True)
    assert window.cwnd == before + 1000


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
        window.acknowledged(window.cwnd, window.cwnd, True)
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
