"""The site, built once for the tests that look at it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = ("-m", "mkdocs", "build", "--strict")
"""The command of `make docs`. No `--quiet`: with it MkDocs counts no warnings, and `--strict` finds none."""


def build(place: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Build a site into a folder, as `make docs` does."""
    return subprocess.run(
        [sys.executable, *BUILD, "--site-dir", str(place), *options],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        check=False,
    )


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site. Any warning of the build is an error."""
    missing = [name for name in ("mkdocs", "material", "mkdocstrings", "mermaidx") if not _is_there(name)]
    if missing:
        pytest.skip(f"the docs extra is not installed ({', '.join(missing)}): the site was not built")
    place = tmp_path_factory.mktemp("site")
    done = build(place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "requires" not in done.stderr  # a formatter for signatures, or another part that is optional
    return place


def _is_there(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
