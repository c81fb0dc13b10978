"""The site, built once for the tests that look at it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site. Any warning of the build is an error."""
    missing = [name for name in ("mkdocs", "material", "mkdocstrings", "mermaidx") if not _is_there(name)]
    if missing:
        pytest.skip(f"the docs extra is not installed ({', '.join(missing)}): the site was not built")
    place = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(place)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout + done.stderr == ""
    return place


def _is_there(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
