"""`instant.js` by itself, in Node: databases that are slow, full or not there, several tabs, a changed token."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from stack.web import assets

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="no node here: the module was not run")

# A browser, as far as the module sees one: `store` is what all tabs share, `database` how it behaves.
BROWSER = """
globalThis.location = { href: "https://voice.example/page" };
globalThis.RTCPeerConnection = { generateCertificate: async () => ({ expires: Date.now() + 30 * 86_400_000 }) };
globalThis.store = new Map();
globalThis.database = "good";
const answered = (value, error) => {
  const request = { result: value, error };
  queueMicrotask(() => (error ? request.onerror?.() : request.onsuccess?.()));
  return request;
};
const actions = {
  get: key => answered(structuredClone(store.get(key))),
  put: (value, key) => {
    if (database === "full") return answered(undefined, new Error("QuotaExceededError"));
    return answered(void store.set(key, structuredClone(value)));
  },
  delete: key => answered(void store.delete(key)),
};
globalThis.indexedDB = {
  open() {
    if (database === "none") throw new Error("SecurityError");
    if (database === "blocked") return {};   // neither event ever comes
    return answered({ transaction: () => ({ objectStore: () => actions }), close() {} });
  },
};
const { InstantConnect } = await import("./instant.mjs");
const grant = ufrag => ({
  ufrag, pwd: "p".repeat(24), fingerprint: "sha-256 AA", ssrc: 1, cname: "c", lifetime: 3600,
});
const offer = "v=0\\r\\nm=audio 9 UDP/TLS/RTP/SAVPF 111\\r\\n";
const answer = "v=0\\r\\na=ice-ufrag:former\\r\\na=ice-pwd:former\\r\\n";
const taken = async tab => /ice-ufrag:(.*)\\r/.exec((await tab.take())?.answer ?? "")?.[1] ?? null;
const soon = () => new Promise(resolve => { setTimeout(resolve, 30); });
const say = value => console.log(JSON.stringify(value));
"""


def run(folder: Path, script: str) -> list[Any]:
    """Run a script behind `BROWSER`; returns what it says."""
    (folder / "instant.mjs").write_bytes(assets()["instant.js"].data)
    (folder / "script.mjs").write_text(f"{BROWSER}\n{script}\nprocess.exit(0);\n")
    assert NODE is not None
    done = subprocess.run(
        [NODE, "script.mjs"], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_ticket_is_kept_renewed_and_there_after_a_reload(tmp_path: Path) -> None:
    script = """
    const tab = new InstantConnect();
    say(await taken(tab));
    await tab.keep(offer, answer, grant("one"));
    say(await taken(tab));
    await tab.renew(grant("two"));
    say([await taken(tab), await taken(new InstantConnect())]);
    await tab.keep(offer, answer, undefined);   // the server grants none any more
    say([await taken(tab), await taken(new InstantConnect())]);
    """
    assert run(tmp_path, script) == [None, "one", ["two", "two"], [None, None]]


def test_a_ticket_is_not_taken_once_it_is_forgotten(tmp_path: Path) -> None:
    """The page forgets when another token is typed in, and calls in the same turn of its loop."""
    script = """
    const tab = new InstantConnect();
    await tab.keep(offer, answer, grant("one"));
    tab.forget();
    say(await taken(tab));
    await tab.renew(grant("two"));   // came in the call that is still up
    say([await taken(tab), await taken(new InstantConnect())]);
    """
    assert run(tmp_path, script) == [None, [None, None]]


@pytest.mark.parametrize("behaviour", ["none", "full", "blocked"])
def test_a_database_that_keeps_nothing_costs_a_reload_its_ticket(tmp_path: Path, behaviour: str) -> None:
    script = f"""
    database = "{behaviour}";
    const tab = new InstantConnect();
    say(Boolean(await tab.certificate()));
    tab.keep(offer, answer, grant("one"));
    say([await taken(tab), await taken(new InstantConnect())]);
    """
    assert run(tmp_path, script) == [True, ["one", None]]


def test_a_ticket_is_of_the_tab_that_takes_it_first(tmp_path: Path) -> None:
    """A second call by one ticket would end the first."""
    script = """
    const one = new InstantConnect();
    await one.keep(offer, answer, grant("one"));
    const two = new InstantConnect(), elsewhere = new InstantConnect("https://other.example/");
    await elsewhere.keep(offer, answer, grant("one"));
    await two.certificate();
    say(await taken(one));
    await soon();
    say([await taken(two), await taken(one), await taken(elsewhere)]);
    await two.keep(offer, answer, grant("two"));   // by HTTP
    await soon();
    say([await taken(two), await taken(one)]);
    one.forget();
    await soon();
    say([await taken(two), await taken(one), await taken(elsewhere)]);
    """
    assert run(tmp_path, script) == ["one", [None, "one", "one"], ["two", "one"], [None, None, "one"]]
