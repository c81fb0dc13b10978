"""The report in browsers: it unpacks itself from a file and draws what it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from interop.browsers import launch
from interop.cli import pairs_of
from interop.peers.registry import PEERS
from interop.report import as_json, write_html
from interop.runner import Pair, empty_cell, run_cell
from interop.scenarios import SCENARIOS
from interop.verdict import Outcome, Verdict

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


async def test_cells_of_which_the_same_is_said_are_one_entry(browser_name: str, tmp_path: Path) -> None:
    pair = Pair(PEERS["ours"], PEERS["ours"], "server")
    red, untried = Verdict(Outcome.FAILED, "a gap."), Verdict(Outcome.UNTRIED, "the run ended before.")
    verdicts = dict.fromkeys(SCENARIOS, untried) | dict.fromkeys(
        ("audio", "PCMU", "PCMA", "mute", "messages"), red
    )
    verdicts["no candidates"] = Verdict(Outcome.FAILED, "another gap.")
    cells = [empty_cell(pair, SCENARIOS[name], verdict) for name, verdict in verdicts.items()]
    write_html(tmp_path / "report.html", as_json(cells, 1.0))
    async with launch(browser_name) as browser:
        await browser.goto((tmp_path / "report.html").as_uri())
        await browser.wait_for("document.querySelector('#attention li') !== null")
        entries = await browser.evaluate(
            "[...document.querySelectorAll('#attention li')].map(each => each.textContent)"
        )
    assert [entry.partition("failed")[0].count(" · ") for entry in entries] == [4, 0, 0]
    assert "and 1 morefailed: a gap." in entries[0]
    assert entries[2] == f"ours → ours: {len(SCENARIOS) - 6} not triedThe run ended before."


async def test_on_paper_the_matrix_is_whole(browser_name: str, tmp_path: Path) -> None:
    """A sheet has no scroll bar: every pair is in one of several tables, each no wider than the sheet."""
    pairs = pairs_of(list(PEERS.values()))
    passed = Verdict(Outcome.PASSED, "")
    cells = [empty_cell(pair, scenario, passed) for pair in pairs for scenario in SCENARIOS.values()]
    write_html(tmp_path / "report.html", as_json(cells, 1.0))
    async with launch(browser_name) as browser:
        await browser.goto((tmp_path / "report.html").as_uri())
        await browser.wait_for("document.querySelector('#paper td') !== null")
        shown = await browser.evaluate(
            """(() => {
              const paper = document.getElementById("paper"), sheet = document.createElement("style");
              const print = [...document.styleSheets[0].cssRules].find(rule => rule.conditionText === "print");
              sheet.textContent = [...print.cssRules].map(rule => rule.cssText).join("\\n");
              document.head.append(sheet);
              document.body.style.width = "18cm";
              const wide = paper.getBoundingClientRect().width, tables = [...paper.querySelectorAll("table")];
              return {
                text: paper.textContent.replaceAll("\\u00a0", " "),
                signs: paper.querySelectorAll("td.passed").length,
                fits: tables.every(table => table.getBoundingClientRect().width <= wide + 1),
                screen: getComputedStyle(document.querySelector(".scroll")).display,
                wide,
              };
            })()"""
        )
    assert shown["signs"] == len(cells)
    assert shown["fits"]
    assert shown["screen"] == "none"
    assert 500 < shown["wide"] < 700
    for number, pair in enumerate(pairs, 1):
        assert f"{number} {pair.label}" in shown["text"]
