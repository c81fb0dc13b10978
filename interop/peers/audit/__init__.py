"""axe-core, which audits a page against the rules of WCAG: `violations(browser)` names what it finds in the page.

It comes from npm into a folder that git ignores (`make peers`, or the first use), and runs inside the page.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

from interop.browsers import Browser

HERE = Path(__file__).parent
SCRIPT = HERE / "node_modules" / "axe-core" / "axe.min.js"
TIMEOUT = 300.0
"""Seconds for npm."""
_RUN = """axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) => violations.flatMap(
  ({ id, nodes }) => nodes.map(node => `${id}: ${node.target.join(" ")} (${node.failureSummary})`)))"""


def absent() -> str | None:
    """Return one line that says what is missing; None if the audit can run. May ask npm, once."""
    with open(HERE / "package.json") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if SCRIPT.exists():
            return None
        npm = shutil.which("npm")
        if npm is None:
            return "npm is not installed here: the page was not audited"
        command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--silent"]
        done = subprocess.run(command, cwd=HERE, capture_output=True, timeout=TIMEOUT, check=False)
        if done.returncode != 0 or not SCRIPT.exists():
            return "npm could not get axe-core: the page was not audited"
    return None


async def violations(browser: Browser) -> list[str]:
    """Return what breaks a rule in the page as it is shown now: the rule, the element, and what to do."""
    if not await browser.evaluate("typeof window.axe === 'object'"):
        await browser.evaluate(f"(() => {{ {SCRIPT.read_text()}\n; return true; }})()")
    found: list[str] = await browser.evaluate(_RUN, timeout=120)
    return found
