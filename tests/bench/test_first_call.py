"""What does not work in a checkout stands in the table, in bounded time, and the rest is measured."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from bench import first_call
from bench.__main__ import main
from bench.report import Cell


@pytest.fixture(autouse=True)
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to be built in these checkouts."""

    def fails(clone: Path, environment: dict[str, str]) -> float:
        raise first_call.StepFailed("pip failed")

    monkeypatch.setattr(first_call, "_wheel", fails)


READY = ".venv/.ready:\n\tmkdir -p .venv && echo something > .venv/it\n"


def checkout(folder: Path, makefile: str) -> str:
    """A repository of its own with this Makefile."""
    folder.mkdir()
    (folder / "Makefile").write_text(makefile)
    git = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.com"]
    for words in (["init", "--quiet"], ["add", "Makefile"], ["commit", "--quiet", "-m", "A Makefile"]):
        subprocess.run([*git, *words], check=True)
    return str(folder)


def measured(what: str) -> dict[str, object]:
    return dict(zip(first_call.COLUMNS, first_call._measured(what), strict=True))


def test_what_fails_or_hangs_stands_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails = measured(checkout(tmp_path / "fails", ".venv/.ready:\n\t@echo no compiler >&2; exit 1\n"))
    assert str(fails["environment, s"]).startswith("make failed: make")
    assert fails["server, s"] is None
    dies = measured(checkout(tmp_path / "dies", f"{READY}serve:\n\texit 1\n"))
    assert (dies["server, s"], dies["chromium"], dies["firefox"]) == ("did not come up", None, None)
    assert isinstance(dies["environment, s"], float)
    assert dies["wheel adds, MB"] == "pip failed"
    monkeypatch.setattr(first_call, "PATIENCE", 1.0)
    hangs = measured(checkout(tmp_path / "hangs", ".venv/.ready:\n\tsleep 1000\n"))
    assert hangs["environment, s"] == "make did not end in 1 s"


def test_a_browser_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hangs(name: str, url: str) -> None:
        await asyncio.Event().wait()

    serves = f"{READY}serve:\n\tpython3 -m http.server $(word 2,$(ARGS)) --bind 127.0.0.1\n"
    monkeypatch.setattr(first_call, "_first_sound", hangs)
    monkeypatch.setattr(first_call, "BROWSER_PATIENCE", 0.2)
    row = measured(checkout(tmp_path / "serves", serves))
    assert isinstance(row["server, s"], float)
    assert (row["chromium"], row["firefox"]) == ("did not connect", "did not connect")


def test_a_commit_that_is_not_there_is_said() -> None:
    row = measured("no-such-commit")
    assert str(row["checkout"]).startswith("git failed: fatal:")


def test_the_command_takes_a_commit_or_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    took = []

    def measured(what: str) -> list[Cell]:
        took.append(what)
        return [what, *[None] * (len(first_call.COLUMNS) - 1)]

    monkeypatch.setattr(first_call, "_measured", measured)
    other = checkout(tmp_path / "other", READY)
    assert main(["first_call", "--against", "HEAD", other]) == 0
    assert took == ["HEAD", "HEAD", other]
    capsys.readouterr()
    for wrong in ("no-such-commit", str(tmp_path)):
        with pytest.raises(SystemExit) as ended:
            main(["first_call", "--against", wrong])
        said = capsys.readouterr().err
        assert (ended.value.code, said.count("\n")) == (2, 1)
        assert f"--against {wrong}: git failed" in said
    assert len(took) == 3


def test_ctrl_c_ends_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command has a session of its own, to be ended with all its children: the terminal does not tell it."""

    def interrupted(self: subprocess.Popen[str], timeout: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        first_call._run(["sleep", "1000"], {"PATH": "/usr/bin:/bin"})
