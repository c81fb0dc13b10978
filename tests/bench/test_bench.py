import json
import subprocess
import sys

import pytest

from bench import bargein
from bench.__main__ import discover, main, run_command
from bench._voices import RECORDINGS, Missing
from bench.report import Options, Table


def test_list_names_what_there_is(capsys):
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in discover())
    assert discover()["data"].startswith("Data channels")
    assert "report" not in discover()


def test_a_name_that_is_none(capsys):
    with pytest.raises(SystemExit):
        main(["no-such-bench"])
    assert "no such benchmark" in capsys.readouterr().err


def test_a_name_behind_an_option_that_takes_several_is_asked_for(capsys):
    """`--client` takes what stands behind it: a list of all benchmarks was no answer."""
    with pytest.raises(SystemExit) as ended:
        main(["--client", "aiortc", "setup"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "as in bench setup --client aiortc" in said
    assert said.count("\n") == 1


AMOUNTS = [
    ("--scale", "0", "not above 0"),
    ("--scale", "-1", "not above 0"),
    ("--scale", "nan", "not above 0"),
    ("--scale", "inf", "not above 0"),
    ("--seed", "-1", "'-1' is no whole number"),
    ("--seed", "9" * 5000, "is no whole number"),
]


@pytest.mark.parametrize(("option", "value", "said"), AMOUNTS)
@pytest.mark.parametrize("command", [(main, "bargein"), (bargein.main, "stops")], ids=["bench", "bench.bargein"])
def test_an_amount_or_a_seed_that_cannot_be_is_refused_at_the_start(command, option, value, said, capsys):
    run, name = command
    with pytest.raises(SystemExit) as ended:
        run([name, option, value])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.skipif(not RECORDINGS.exists(), reason="apt-get install pocketsphinx-testdata")
def test_a_room_that_is_none_is_said():
    """An empty table said that its goal is met. In a process of its own: voices depend on what was said before."""
    pytest.importorskip("espeakng_loader")
    program = """
from bench import bargein
for table in bargein.TABLES | bargein.ALONE:
    try:
        bargein.main([table, "nonsuch"])
    except SystemExit as ended:
        print(table, ended.code)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    names = [*bargein.TABLES, *bargein.ALONE]
    assert len(names) == 10
    assert done.stdout.splitlines() == [f"{name} 2" for name in names], "no table is printed"
    said = "bench.bargein: the table {} has no row in whose name 'nonsuch' occurs"
    assert done.stderr.splitlines() == [said.format(name) for name in names]


def test_a_sound_that_is_not_installed_is_one_line(capsys, monkeypatch):
    def missing(options, only):
        raise Missing("apt-get install it")

    monkeypatch.setitem(bargein.TABLES, "stops", missing)
    with pytest.raises(SystemExit) as ended:
        bargein.main(["stops"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "bench.bargein: apt-get install it\n"


def test_ctrl_c_is_one_line(monkeypatch, capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.values.run", interrupted)
    assert run_command(["values"]) == 130
    assert capsys.readouterr().err == "bench: interrupted\n"


def test_a_table_as_text():
    table = Table("title", ("who", "MB/s"), [("ours", 123.456), ("theirs", None)], ("a note",))
    assert table.text().splitlines() == [
        "title",
        "who      MB/s",
        "------  -----",
        "ours    123.5",
        "theirs      -",
        "  a note",
    ]


@pytest.mark.peer
@pytest.mark.slow
def test_data_runs_both_and_compares(capsys):
    assert main(["data", "--json", "--scale", "0.02"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["bench"] == "data"
    throughput, latency = result["tables"]
    assert {row[1] for row in throughput["rows"]} >= {"aiortc", "ours"}
    assert all(row[2] > 0 for row in throughput["rows"])
    p50 = {row[0]: row[2] for row in latency["rows"]}
    assert p50["ours, I-DATA"] < p50["ours, DATA"] < p50["aiortc"], (
        "virtual time: these do not depend on the machine"
    )


@pytest.mark.slow
def test_interleaving_spares_small_messages_the_wait_for_large_ones(capsys):
    assert main(["interleaving", "--json", "--scale", "0.1"]) == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    p50 = {(row[0], row[1]): row[3] for row in table["rows"]}
    assert p50["262,144", "I-DATA"] < p50["262,144", "DATA"] / 1.5
    assert p50["-", "idle link"] < p50["16,384", "I-DATA"] < 1.1 * p50["262,144", "I-DATA"]


def test_values_are_made_and_cross(capsys):
    assert main(["values", "--json", "--scale", "0.01"]) == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    assert table["rows"][0][0] == "AudioReceived, 20 ms"
    assert all(cost > 0 for row in table["rows"] for cost in row[1:])
    assert table["rows"][0][4] <= 700


def test_options_have_defaults():
    assert Options() == Options(scale=1.0, seed=1)


def test_what_a_call_holds_is_said_by_part(capsys):
    assert main(["memory_parts", "--json"]) == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    kinds = table["columns"][1:]
    rows = {row[0]: dict(zip(kinds, row[1:], strict=True)) for row in table["rows"]}
    assert rows["all"]["idle"] < rows["all"]["sounding"] < rows["all"]["listening"] < rows["all"]["loudspeaker"]
    # No buffer before its first use.
    assert [rows["echo canceller"][kind] > 0 for kind in kinds] == [False, False, True, True]
    assert [rows["libopus"][kind] > 0 for kind in kinds] == [False, True, True, True]
    assert rows["all"]["idle"] < 80


def test_what_a_set_up_costs_is_said_by_part(capsys):
    assert main(["churn_parts", "--json", "--scale", "0.01"]) == 0
    parts, primitives = json.loads(capsys.readouterr().out)["tables"]
    for table in (parts, primitives):
        *rows, total = table["rows"]
        assert total[0] == "all"
        for place in (1, 2):
            assert sum(row[place] for row in rows) == pytest.approx(total[place])
    assert all(cost > 0 for row in parts["rows"] for cost in row[1:]), "every part has been come by"
    assert all(taken < cost for taken, cost in zip(primitives["rows"][-1][1:], parts["rows"][-1][1:], strict=True))
