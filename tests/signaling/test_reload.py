"""Which files `serve --reload` watches."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stack.signaling import reload
from stack.signaling.reload import changed, take_snapshot


def test_the_python_files_of_a_program_are_watched(tmp_path: Path) -> None:
    for name in (
        "main.py",
        "data.txt",
        "part/more.py",
        ".venv/lib/x.py",
        "env/pyvenv.cfg",
        "env/x.py",
        "build/x.py",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    before = take_snapshot([tmp_path])
    assert [os.path.relpath(path, tmp_path) for path in before.files] == ["main.py", "part/more.py"]
    assert before.is_whole
    assert changed(before, take_snapshot([tmp_path])) is None
    (tmp_path / "data.txt").write_text("other")
    (tmp_path / "part" / "new.py").touch()
    assert changed(before, take_snapshot([tmp_path])) == str(tmp_path / "part" / "new.py")
    (tmp_path / "part" / "new.py").unlink()
    (tmp_path / "main.py").unlink()
    assert changed(before, take_snapshot([tmp_path])) == str(tmp_path / "main.py")


def test_a_folder_with_too_much_below_it_costs_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home, or the root of the disk: to look through all of it takes minutes, and the start waited for it."""
    monkeypatch.setattr(reload, "MAX_FOLDERS", 20)
    (tmp_path / "zz" / "program").mkdir(parents=True)
    (tmp_path / "zz" / "program" / "mine.py").touch()
    for number in range(10):
        (tmp_path / "data" / f"{number:02}" / "deeper" / "still").mkdir(parents=True)
    snapshot = take_snapshot([tmp_path])
    assert not snapshot.is_whole
    assert [Path(path).name for path in snapshot.files] == ["mine.py"], "what is higher up goes before"
    monkeypatch.setattr(reload, "MAX_FILES", 3)
    for number in range(5):
        (tmp_path / f"{number}.py").touch()
    snapshot = take_snapshot([tmp_path])
    assert (len(snapshot.files), snapshot.is_whole) == (3, False)


def test_folders_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    assert take_snapshot([tmp_path / "nothing"]) == take_snapshot([])
    os.symlink(tmp_path, tmp_path / "around")
    assert take_snapshot([tmp_path]).is_whole
