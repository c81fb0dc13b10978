"""Where the results of a run go: seen before the first call, written after the last, each file by itself."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

import click


class UnusableError(click.ClickException):
    """What an option names cannot be used: one line, and the exit status of a wrong option."""

    exit_code = 2


def reason(error: Exception) -> str:
    """Why something cannot be done, in words; there always are some."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def check_files(files: Mapping[str, Path | None]) -> None:
    """See that each of the files that are written when the run is over has a name of its own, and can be."""
    taken: dict[Path, str] = {}
    for option, file in files.items():
        if file is None:
            continue
        if str(file) == "-":
            raise UnusableError(f"{option} writes a file, and `-` is the name of none")
        _check_file(option, file)
        former = taken.setdefault(file.resolve(), option)
        if former != option:
            raise UnusableError(f"{former} and {option} are both to write {file}")


def _check_file(option: str, file: Path) -> None:
    """Make the folder of a file, and see that the file can be opened."""
    try:
        _make_folder(file.parent)
        is_new = not file.exists()
        with file.open("a"):
            pass
        if is_new:
            file.unlink()
    except (OSError, ValueError) as error:
        raise UnusableError(f"{option}: {file} cannot be written: {reason(error)}") from error


def _make_folder(folder: Path) -> None:
    """Make a folder, or see that there is one; raises `OSError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, f"{folder} is no folder") from None


def check_folder(folder: Path | None) -> None:
    """Make the folder of --keep, and see that something can be written there."""
    if folder is None:
        return
    try:
        _make_folder(folder)
        with TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        raise UnusableError(f"--keep: {folder} cannot be written to: {reason(error)}") from error


def write_file(file: Path, text: str) -> None:
    """Write a file whole or not at all: a full disk leaves the former one; raises `OSError`."""
    place = file.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)  # it was there when the run began
    if place.exists() and not place.is_file():
        place.write_text(text, "utf-8")  # a pipe, a device
        return
    part = place.with_name(f"{place.name}.part")
    try:
        part.write_text(text, "utf-8")
        os.replace(part, place)
    except PermissionError:
        place.write_text(text, "utf-8")  # a file that may be written, in a folder where none may be made
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
