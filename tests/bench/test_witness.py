"""The witness of gaps: what it notes of a process, and what it says of a time."""

import os
import sys
import time

import pytest

from bench import kills
from bench._witness import Account, Look, Witness, watching

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="schedstat is read on Linux only")


def looks():
    """A second of looks, 5 ms apart: from 0.5 s on the process waits for 50 ms, from 0.7 s on the core is slow."""
    found, ran, waited = [], 0.0, 0.0
    for number in range(200):
        at = 100.0 + number * 0.005
        is_waiting, is_slow = 100 <= number < 110, 140 <= number < 150
        ran += 0.0 if is_waiting else 1.0
        waited += 5.0 if is_waiting else 0.0
        found.append(Look(at, 0.1, 0.2 if is_slow else 0.02, ran, waited))
    return found


def test_a_gap_in_which_the_process_had_no_core():
    account = Witness(looks()).account(100.545, 45.0)
    assert account.waited == pytest.approx(45.0)
    assert account.ran == 0.0
    assert account.has_whole_core


def test_a_gap_on_a_slow_core_is_the_machines():
    account = Witness(looks()).account(100.745, 45.0)
    assert account.slow == pytest.approx(10.0)
    assert account.waited == 0.0
    assert not account.has_whole_core


def test_a_gap_in_which_the_witness_was_late_itself():
    seen = looks()
    seen[50] = seen[50]._replace(late=40.0)
    assert not Witness(seen).account(100.26, 50.0).has_whole_core
    assert Witness(seen).account(100.40, 50.0).has_whole_core


def test_a_gap_beyond_what_was_seen():
    account = Witness(looks()).account(200.0, 10.0)
    assert (account.ran, account.waited) == (0.0, 0.0)


class Seen:
    """A watch that has seen every second gap on a slow core."""

    def account(self, end, milliseconds):
        return Account(1.0, 2.0, 0.1, 1.0 if int(end) % 2 else 9.0)


def test_kills_tells_the_worst_gaps_and_the_worst_on_whole_cores():
    gaps = [(float(second), 100.0 - second) for second in range(10)]
    table = kills._gaps(gaps, [4.5], Seen())
    assert [row[1] for row in table.rows] == [100.0, 99.0, 98.0, 97.0, 95.0]
    assert [row[-1] for row in table.rows] == ["no", "yes", "no", "yes", "yes"]
    assert [row[0] for row in table.rows] == [None, None, None, None, 0.5]
    assert "whole core" in table.text()


@linux
def test_a_process_is_watched_until_the_end():
    with watching(os.getpid(), [min(os.sched_getaffinity(0))]) as watch:
        until = time.process_time() + 0.3
        while time.process_time() < until:
            sum(range(10_000))
    account = watch.account(time.time(), 1e6)
    assert account is not None
    assert account.ran > 0.0
