from __future__ import annotations

import ctypes.util
import subprocess
import sys
from pathlib import Path

import pytest

from stack.audio import library
from stack.core.errors import LocalError


def test_the_file_named_by_the_environment_is_the_only_one_tried(monkeypatch):
    monkeypatch.setenv(library.ENVIRONMENT_VARIABLE, "/nowhere/libopus.so")
    assert list(library.candidates()) == ["/nowhere/libopus.so"]
    with pytest.raises(LocalError, match="/nowhere/libopus"):
        library.find_opus()


def test_a_library_that_is_not_opus_is_refused(monkeypatch):
    libc = ctypes.util.find_library("c")
    if libc is None:
        pytest.skip("no C library to be found")
    monkeypatch.setenv(library.ENVIRONMENT_VARIABLE, libc)
    with pytest.raises(LocalError, match="opus_get_version_string"):
        library.find_opus()


def test_the_system_comes_before_the_wheels(monkeypatch):
    monkeypatch.delenv(library.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: f"lib{name}.so.0")
    assert next(iter(library.candidates())) == "libopus.so.0"


def test_without_any_library_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setattr(library, "candidates", lambda: iter(()))
    with pytest.raises(LocalError, match="pip install opuslib-next-bundled"):
        library.find_opus()


def test_the_wheels_are_found_without_importing_them(monkeypatch):
    monkeypatch.delenv(library.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    found = [Path(candidate) for candidate in library.candidates()]
    if not found:
        pytest.skip("neither opuslib-next-bundled nor PyAV is installed")
    assert all(path.exists() for path in found)
    assert library.find_opus() == str(found[0])
    assert "opuslib_next" not in sys.modules


@pytest.mark.parametrize("source", ["system", "wheels"])
def test_a_fresh_interpreter_encodes_with_either_kind_of_library(source):
    """Importing `opuslib` is a once in a process affair, so each way gets a process of its own."""
    hide = "import ctypes.util; ctypes.util.find_library = lambda name: None;" if source == "wheels" else ""
    program = (
        f"{hide}import numpy as np; from stack.audio import OpusEncoder, OpusDecoder, library;"
        "from stack.core.errors import LocalError\n"
        "try: library.find_opus()\n"
        "except LocalError: raise SystemExit(77)\n"
        "payload = OpusEncoder().encode(np.zeros(960, np.int16));"
        "assert len(OpusDecoder(16000).decode(payload)) == 320;"
        "import ctypes.util, sys; assert 'opuslib_next' not in sys.modules and 'av' not in sys.modules;"
        "assert ctypes.util.find_library('no such library') is None"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    if done.returncode == 77:
        pytest.skip(f"no Opus among the {source}")
    assert done.returncode == 0, done.stderr
