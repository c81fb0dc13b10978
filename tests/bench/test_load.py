"""The benchmarks under load: what they count, what they draw, and that each of them runs."""

import json
import os
import subprocess
import sys
import time
from xml.etree import ElementTree

import pytest

from bench import _load
from bench.__main__ import main
from bench._load import Absent, Run, Samples, cpu_seconds, family, memory_kb
from bench._plot import svg
from bench.report import Chart, Options, Table

UNDER_LOAD = ("packets", "voice", "smoothness", "churn", "memory")

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="process clocks are read on Linux only")


def made(cpu=1.0, late=(1.0, 2.0, 3.0, 4.0, 5.0)):
    result = {"calls": 10, "went": 5000, "came": 5000, "late_ms": list(late)}
    return Run("ours", result, cpu, seconds=10.0, memory_before=1000.0, memory=4000.0)


def test_figures_of_a_run():
    run = made()
    assert run.core() == pytest.approx(0.1)
    assert run.us_per_packet() == pytest.approx(200.0)
    assert run.us_per_frame() == pytest.approx(200.0), (
        "10 calls, 50 frames a second each: as many frames as packets"
    )
    assert run.ms_per_call() == pytest.approx(100.0)
    assert run.kilobytes_per_call() == pytest.approx(300.0)


def test_medians_and_spread_over_runs():
    samples = Samples([made(3.0, (0, 0, 7, 0, 0)), made(1.0, (0, 0, 9, 0, 0)), made(2.0, (0, 0, 8, 0, 0))])
    assert samples.spread(Run.core) == pytest.approx((0.2, 0.1, 0.3))
    assert samples.median(Run.core) == pytest.approx(0.2)
    assert samples.percentile("late_ms", 99) == (8, 7, 9)
    assert samples.late(99, 50) == [8, 0]


def test_contestants_take_turns_and_each_is_first_once():
    order = []

    def measure(contestant):
        order.append(contestant.name)
        return made()

    contestants = [_load.Contestant(name, ()) for name in "abc"]
    samples = _load.interleaved("3 calls", Options(), contestants, 3, measure)
    assert "".join(order) == "abcbcacab"
    assert [len(each.runs) for each in samples.values()] == [3, 3, 3]


@linux
def test_processor_time_and_memory_are_those_of_the_process_and_its_children():
    burn = "import subprocess, sys, time; e = time.process_time() + 0.05\nwhile time.process_time() < e: pass\n"
    parent = (
        f"{burn}p = subprocess.Popen([sys.executable, '-c', {burn + 'input()'!r}], stdin=0)\nprint(1, flush=True)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", parent + "\np.wait()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        child.stdout.readline()
        while cpu_seconds(child.pid) < 0.1:
            assert child.poll() is None
            time.sleep(0.005)
        assert len(family(child.pid)) == 2
        assert memory_kb(child.pid) > memory_kb(family(child.pid)[1]) > 0
    finally:
        child.communicate(b"\n", timeout=20)
    assert cpu_seconds(os.getpid()) == pytest.approx(time.process_time(), abs=0.1)


def test_a_chart_has_a_bar_for_each_row_in_its_group():
    rows = [
        (20, "ours & us", 120.0, 110.0, 130.0),
        (20, "aiortc", 240.0, 230.0, 250.0),
        (50, "ours & us", 90.0, 80.0, 95.0),
    ]
    table = Table("µs", ("calls", "who", "µs", "least", "most"), rows, chart=Chart("µs"))
    picture = ElementTree.fromstring(svg(table))
    texts = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert [text for text in texts if text.startswith("calls")] == ["calls 20", "calls 50"]
    bars = [float(rect.get("width")) for rect in picture.iter("{http://www.w3.org/2000/svg}rect") if rect.get("x")]
    assert bars[1] == pytest.approx(2 * bars[0], abs=0.2)
    assert len(bars) == len(rows)
    with pytest.raises(ValueError):
        svg(Table("none", ("calls", "who"), rows))


@pytest.mark.parametrize("name", UNDER_LOAD)
def test_without_the_generator_it_says_so_in_one_line(name, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(_load, "GENERATOR", tmp_path / "absent")
    monkeypatch.setattr(_load.sys, "platform", "linux")
    assert main([name, "--plot", str(tmp_path / "plots")]) == 0
    assert (
        capsys.readouterr().out.splitlines()[-1]
        == "  not measured: the load generator is not built: make peers (needs go)"
    )
    assert list((tmp_path / "plots").iterdir()) == []


def test_a_checkout_to_compare_with_must_be_one(tmp_path):
    with pytest.raises(Absent, match="there is no `stack` in it"):
        _load.ours("echo", Options(against=(str(tmp_path),)))


@pytest.mark.peer
@pytest.mark.slow
@pytest.mark.parametrize("name", UNDER_LOAD)
def test_each_measures_ours_beside_aiortc(name, capsys, tmp_path):
    try:
        _load.require_generator()
    except Absent as absent:
        pytest.skip(str(absent))
    assert main([name, "--json", "--scale", "0.05", "--calls", "4", "--plot", str(tmp_path)]) == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    assert {row[table["columns"].index("who")] for row in table["rows"]} >= {"ours", "aiortc"}, table["notes"]
    value = table["columns"].index(table["chart"]["value"])
    assert all(row[value] > 0 for row in table["rows"] if name != "memory")
    assert (tmp_path / f"{name}.svg").exists()
