"""The programs of `docs/alone.md` do what the page says, and the page shows the programs as they are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "alone.md").read_text("utf-8")
PROGRAMS = ROOT / "examples" / "layers"
OFFERS = ROOT / "tests" / "vectors" / "offers"
RUNNER = """
import runpy, sys
runpy.run_path(sys.argv[1], run_name="__main__")
print("packages:", *sorted({name.split(".")[1] for name in sys.modules if name.startswith("stack.")}))
print("asyncio:", "asyncio" in sys.modules)
"""


def run(name: str, given: str = "", code: int = 0) -> tuple[list[str], str]:
    """Run a program to its end; return its lines and what it complained of."""
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(PROGRAMS / f"{name}.py")],
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout.splitlines(), done.stderr


def shown(name: str) -> list[str]:
    """Return the output that the page shows for a program."""
    found = re.search(rf"    \$ python examples/layers/{name}\.py\n((?:    .+\n)+)", PAGE)
    assert found is not None
    return [line.strip() for line in found[1].splitlines()]


@pytest.mark.real_clock
def test_data_in_memory() -> None:
    lines, _ = run("data_in_memory")
    assert lines == [*shown("data_in_memory"), "packages: core dtls sctp", "asyncio: False"]
    assert "server: received 'hello'" in lines


@pytest.mark.real_clock
def test_a_session_in_a_loop() -> None:
    lines, _ = run("session_in_a_loop")
    packages = "packages: core dtls ice rtp sctp sdp session srtp stun"
    assert sorted(lines) == sorted([*shown("session_in_a_loop"), packages, "asyncio: False"])
    assert lines[-3].startswith("client: Ended")


@pytest.mark.parametrize("browser", ["chromium156", "firefox153"])
def test_sdp_alone(browser: str) -> None:
    lines, _ = run("sdp_alone", (OFFERS / f"{browser}-audio_dc.sdp").read_text("utf-8"))
    assert lines[0] == "v=0"
    assert "a=setup:passive" in lines
    agreed = lines[lines.index("") + 1 :]
    assert agreed[0].startswith("we are the DTLS server, the peer's ufrag is ")
    assert agreed[1] == f"audio: opus/48000 as {111 if browser == 'chromium156' else 109}, sendrecv"
    assert agreed[3].startswith("data:  SCTP port 5000, messages up to ")
    assert agreed[4:] == ["packages: core sdp", "asyncio: False"]


def test_sdp_that_cannot_be_answered() -> None:
    _, said = run("sdp_alone", "nonsense", code=1)
    assert said.startswith("no answer: ")


def test_the_page_shows_the_programs_as_they_are() -> None:
    quoted = dict(re.findall(r"`examples/layers/(\w+)\.py`:\n\n```python\n(.*?)```\n", PAGE, re.DOTALL))
    assert quoted == {path.stem: path.read_text("utf-8") for path in PROGRAMS.glob("*.py")}
    assert len(quoted) == 3
