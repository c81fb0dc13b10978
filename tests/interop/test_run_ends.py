"""A run that ends before its time, or whose words or files find no place: what was found is kept."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from io import BufferedWriter, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from interop import __main__ as entrance
from interop import places
from interop.cli import main, settled
from interop.console import Outlet
from interop.evidence import Evidence
from interop.peers.registry import PEERS
from interop.places import write_file
from interop.report import as_json, as_junit, merged
from interop.runner import Cell, Pair, Plan, empty_cell, run_plan, settle
from interop.scenarios import SCENARIOS, Scenario
from interop.verdict import Blame, Outcome, Verdict

OURS = Pair(PEERS["ours"], PEERS["ours"], "server")


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture
def quick_cells(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Cells without calls, which pass; the names of the scenarios that were run."""
    ran: list[str] = []

    async def instead(pair: Pair, scenario: Scenario, seed: int = 1) -> Cell:
        await asyncio.sleep(0)
        ran.append(scenario.name)
        return empty_cell(pair, scenario, Verdict(Outcome.PASSED, "all is well."))

    monkeypatch.setattr("interop.runner.run_cell", instead)
    return ran


def test_an_output_that_is_not_read_takes_everything_and_raises_nothing() -> None:
    reader, writer = os.pipe()
    out = TextIOWrapper(BufferedWriter(Outlet(writer, "w")), "utf-8", line_buffering=True)
    print("first", file=out)
    assert os.read(reader, 100) == b"first\n"
    os.close(reader)
    for _ in range(3):
        print("second", file=out)
    out.close()


def test_a_run_into_a_closed_pipe_writes_its_files_without_a_traceback(tmp_path: Path) -> None:
    """Nothing of this is a call: our ends cannot do what is asked for."""
    files = {option: tmp_path / option for option in ("json", "junit", "html")}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "interop", "run", "ours", "reload", "hang-up over HTTP"]
        + [word for option, file in files.items() for word in (f"--{option}", str(file))],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert done.stderr.strip() == "Error: nothing was tried: all that was asked for is absent or unsupported"
    assert len(json.loads(files["json"].read_text("utf-8"))["cells"]) == 2
    assert all(file.stat().st_size for file in files.values())


def test_an_interruption_while_the_harness_is_loaded_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Impatient:
        """Finds the command line, and Ctrl-C comes at that moment."""

        def find_spec(self, name: str, *_: Any) -> None:
            if name == "interop.cli":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "interop.cli")
    monkeypatch.setattr(sys, "meta_path", [Impatient(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        entrance.main()
    assert ended.value.code == 130
    assert capsys.readouterr() == ("", "Interrupted.\n")


def test_a_python_without_what_is_needed_says_what_to_do() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-m", "interop", "quick"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: {sys.executable} has no module '")
    assert "`make interop RUN=quick`" in line


def test_the_help_shows_each_example_on_a_line_of_its_own() -> None:
    status, output = run("--help")
    assert status == 0
    lines = [line.strip() for line in output.splitlines() if line.startswith("  python -m interop")]
    assert len(lines) == 7
    assert [line.split()[3] for line in lines] == ["--list", "quick", "run", "run", "serve", "all", "setup"]
    assert max(map(len, output.splitlines())) <= 80


@pytest.fixture
def not_ignored() -> Iterator[None]:
    """Tests that run under nohup ignore SIGHUP, and so would the harness."""
    former = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, former)


@pytest.mark.usefixtures("not_ignored")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_was_not_run_before_an_interruption_is_reported_as_not_tried(
    monkeypatch: pytest.MonkeyPatch, quick_cells: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    def stop(_self: object, cell: Cell, done: int, _total: int) -> None:
        if done == 2:
            signal.raise_signal(number)

    def impatient(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGINT)  # once more, while the results are written
        return as_json(*arguments)

    monkeypatch.setattr("interop.progress.Progress.note", stop)
    monkeypatch.setattr("interop.cli.as_json", impatient)
    former = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    names = ["audio", "PCMU", "PCMA", "mute"]
    code, text = run("run", "ours", *names, "--json", str(tmp_path / "r.json"), "--junit", str(tmp_path / "r.xml"))
    assert code == 128 + number
    assert "not tried, ours → ours (2): the run ended before it was tried" in text
    results = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert [cell["outcome"] for cell in results["cells"]] == ["passed"] * 2 + ["untried"] * 2
    assert (tmp_path / "r.xml").read_text("utf-8").count("<skipped") == 2
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == former


def test_a_run_that_was_interrupted_is_taken_up_where_it_ended() -> None:
    def cell(scenario: str, outcome: Outcome, sentence: str = "") -> Cell:
        return empty_cell(OURS, SCENARIOS[scenario], Verdict(outcome, sentence))

    former = as_json([cell("audio", Outcome.PASSED, "before"), cell("PCMU", Outcome.UNTRIED)], 1.0)
    assert settled(former) == {("ours → ours", "audio")}
    now = as_json(
        [cell("audio", Outcome.UNTRIED), cell("PCMU", Outcome.PASSED), cell("mute", Outcome.UNTRIED)], 1.0
    )
    both = merged(former, now, ["ours → ours"])
    outcomes = {(each["scenario"], each["outcome"]) for each in both["cells"]}
    assert outcomes == {("audio", "passed"), ("PCMU", "passed"), ("mute", "untried")}
    assert "not tried" in as_junit(both)


def test_a_harness_that_fails_reports_what_was_run(
    monkeypatch: pytest.MonkeyPatch, quick_cells: list[str], tmp_path: Path
) -> None:
    def fall(_self: object, cell: Cell, done: int, _total: int) -> None:
        raise RuntimeError("out of the blue")

    monkeypatch.setattr("interop.progress.Progress.note", fall)
    code, text = run("run", "ours", "audio", "PCMU", "--json", str(tmp_path / "r.json"))
    assert code == 1
    assert "the harness failed, and what was run is reported: RuntimeError('out of the blue')" in text
    results = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert [cell["outcome"] for cell in results["cells"]] == ["passed", "untried"]


def test_a_folder_that_goes_during_the_run_is_made_again(
    monkeypatch: pytest.MonkeyPatch, quick_cells: list[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("interop.progress.Progress.note", lambda *_: shutil.rmtree(tmp_path / "new"))
    code, _ = run("run", "ours", "audio", "--json", str(tmp_path / "new" / "r.json"))
    assert code == 0
    assert (tmp_path / "new" / "r.json").is_file()


def test_a_file_that_cannot_be_written_costs_itself_and_the_former_one_stays(
    monkeypatch: pytest.MonkeyPatch, quick_cells: list[str], tmp_path: Path
) -> None:
    whole = Path.write_text

    def full(path: Path, text: str, encoding: str) -> int:
        if path.name.startswith("r.json"):
            whole(path, text[:9], encoding)
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(path, text, encoding)

    (tmp_path / "r.json").write_text("the former one", "utf-8")
    monkeypatch.setattr(Path, "write_text", full)
    arguments = [word for name in ("json", "html") for word in (f"--{name}", str(tmp_path / f"r.{name}"))]
    code, text = run("run", "ours", "audio", *arguments)
    assert code == 1
    assert f"--json: {tmp_path / 'r.json'} cannot be written: No space left on device" in text
    assert "1 passed" in text
    assert sorted(each.name for each in tmp_path.iterdir()) == ["r.html", "r.json"]
    assert (tmp_path / "r.json").read_text("utf-8") == "the former one"


def test_a_file_is_written_through_its_link_and_to_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_file(tmp_path / "link", "through")
    assert (tmp_path / "file").read_text("utf-8") == "through"
    assert (tmp_path / "link").is_symlink()
    write_file(Path(os.devnull), "away")
    assert Path(os.devnull).is_char_device()


def test_what_may_be_written_is_written_where_nothing_may_be_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(places.os, "replace", refuse)
    write_file(tmp_path / "file", "all the same")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


async def test_a_failure_that_cannot_be_kept_keeps_its_verdict(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(_self: Evidence, _folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Evidence, "write", full)
    cell = empty_cell(OURS, SCENARIOS["audio"], Verdict(Outcome.FAILED, "a gap.", Blame.OURS))
    cell.evidence = Evidence("ours", "ours")
    settle(cell, tmp_path, 0)
    assert (cell.verdict.sentence, cell.kept) == ("a gap.", "")
    assert "could not be kept: [Errno 28] No space left" in cell.verdict.further[0]


async def test_a_rule_that_falls_over_a_call_costs_that_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    def fall(*_: object) -> None:
        raise IndexError("no such packet")

    async def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr("interop.runner.diagnose", fall)
    monkeypatch.setattr("interop.runner._call", nothing)
    [cell] = await run_plan(Plan([OURS], [SCENARIOS["audio"]]), lambda *_: None)
    assert cell.verdict.outcome is Outcome.BROKEN
    assert "IndexError: no such packet" in cell.verdict.sentence


@pytest.mark.parametrize(("main", "code", "said"), [("ctrl_c", 130, "Interrupted.\n"), ("lambda: 3", 3, "")])
def test_a_module_that_is_run_alone_ends_with_one_line(main: str, code: int, said: str) -> None:
    script = (
        "import signal; from interop.interruption import run_alone\n"
        "def ctrl_c(): signal.raise_signal(signal.SIGINT)\n"
        f"run_alone({main})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)
