"""The report in browsers: it unpacks itself from a file and draws what it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from interop.browsers import launch
from interop.peers.registry import PEERS
from interop.report import as_json, write_html
from interop.runner import Pair, run_cell
from interop.scenarios import SCENARIOS

pytestmark = [pytest.mark.real_clock, pytest.mark.peer]


async def test_the_page_draws_the_matrix_and_a_call_from_a_file(browser_name: str, tmp_path: Path) -> None:
    cell = await run_cell(Pair(PEERS["ours"], PEERS["ours"], "server"), SCENARIOS["no candidates"])
    write_html(tmp_path / "report.html", as_json([cell], 1.0))
    async with launch(browser_name) as browser:
        await browser.goto((tmp_path / "report.html").as_uri())
        await browser.wait_for("document.querySelector('td button') !== null")
        shown = await browser.evaluate(
            "[document.querySelector('td button').textContent, document.getElementById('counts').textContent,"
            " document.querySelectorAll('#call svg').length, document.querySelector('#call h2').textContent,"
            " document.querySelector('#call pre').textContent.startsWith('v=0')]"
        )
    assert shown[0] == "✓"
    assert shown[1] == "✓ 1 passed"
    assert shown[2] >= 3
    assert shown[3:] == ["ours → ours: no candidates", True]
