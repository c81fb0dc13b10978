"""`lanes.js` by itself, in Node: what it draws where, on a canvas that notes it."""

from __future__ import annotations

import json
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from stack.web import assets

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="no node here: the module was not run")

WIDTH = 240
ROOM = 50
"""Of a flag: its text is 40 wide here."""
# A canvas that notes its texts and its boxes; time is what the script says.
BROWSER = """
globalThis.window = { devicePixelRatio: 1 };
globalThis.document = { body: {} };
globalThis.matchMedia = () => ({ matches: false });
globalThis.getComputedStyle = () => ({ getPropertyValue: name => name });
globalThis.ResizeObserver = class { observe() {} };
globalThis.requestAnimationFrame = callback => { globalThis.frame = callback; return 1; };
globalThis.cancelAnimationFrame = () => {};
const texts = [], boxes = [];
const context = new Proxy({}, {
  get: (target, name) => target[name] ?? ({
    measureText: () => ({ width: 40 }),
    fillText: (text, x, y) => texts.push([text, x, y]),
    roundRect: (x, y, width) => boxes.push([context.fillStyle, x, x + width]),
  })[name] ?? (() => {}),
});
const { Lanes } = await import("./lanes.mjs");
const lanes = new Lanes({ clientWidth: WIDTH, clientHeight: 160, getContext: () => context });
const draw = now => { texts.length = boxes.length = 0; frame(now); };
const say = value => console.log(JSON.stringify(value));
lanes.start();
"""


def run(folder: Path, script: str) -> list[Any]:
    """Run a script behind `BROWSER`; returns what it says."""
    for name in ("lanes", "canvas", "levels"):
        source = assets()[f"{name}.js"].data.decode().replace('.js";', '.mjs";')
        (folder / f"{name}.mjs").write_text(source)
    (folder / "script.mjs").write_text(f"{BROWSER.replace('WIDTH', str(WIDTH))}\n{script}\nprocess.exit(0);\n")
    assert NODE is not None
    done = subprocess.run(
        [NODE, "script.mjs"], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_flags_of_interruptions_do_not_cover_each_other(tmp_path: Path) -> None:
    """On a phone 50 pixels are 4 s: two interruptions are often nearer."""
    marks = (3_000, 6_000, 9_000, 17_000, 19_000)
    script = "\n".join(f'lanes.mark("{at}", {at});' for at in marks)
    (texts,) = run(tmp_path, f"{script} draw(20_000); say(texts.filter(([text]) => /^\\d+$/.test(text)));")
    flags = {int(text): (x - 5, y) for text, x, y in texts}
    assert list(flags) == list(marks)
    lines = {at: WIDTH - (20_000 - at) / 20_000 * WIDTH for at in marks}
    for at, (left, _) in flags.items():
        assert left == pytest.approx(lines[at]) or left + ROOM == pytest.approx(lines[at]), "each is at its line"
        assert left + ROOM <= WIDTH
    rows = {y for _, y in flags.values()}
    assert len(rows) == 2
    for row in rows:
        for before, after in pairwise(sorted(left for left, y in flags.values() if y == row)):
            assert before + ROOM <= after


def test_a_flag_leaves_whole_with_its_line(tmp_path: Path) -> None:
    before, after = run(
        tmp_path, 'lanes.mark("7", 1_000); for (const now of [20_990, 21_010]) { draw(now); say(texts.flat()); }'
    )
    assert "7" in before
    assert "7" not in after


def test_a_block_is_open_while_a_side_speaks_and_ends_with_the_call(tmp_path: Path) -> None:
    first, second, third = run(
        tmp_path,
        """
        lanes.begin("program", 10_000);
        draw(20_000);
        say([lanes.spans, boxes.filter(([colour]) => colour === "--program")]);
        lanes.end("program", 15_000);
        lanes.begin("program", 18_000);
        lanes.stop(19_000);
        say([lanes.spans, []]);
        lanes.resume();
        draw(20_000);
        say([lanes.spans, boxes.filter(([colour]) => colour === "--program")]);
        """,
    )
    assert first == [
        {"since": None, "you": [], "program": [{"begin": 10_000, "end": None}]},
        [["--program", WIDTH / 2, WIDTH]],
    ]
    ended = [{"begin": 10_000, "end": 15_000}, {"begin": 18_000, "end": 19_000}]
    assert second[0]["program"] == third[0]["program"] == ended, "what was drawn stays"
    assert [box[1:] for box in third[1]] == [[120, 180], [216, 228]]
