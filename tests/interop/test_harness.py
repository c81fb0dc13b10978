"""The harness around its calls: what it lists, refuses, judges and writes."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import aiohttp
import numpy as np
import pytest
from click.testing import CliRunner

from interop import known_faults, runner
from interop.c_peers import Absent, SmallProgram
from interop.cli import chosen, main, pairs_of
from interop.evidence import Evidence, Side
from interop.judging_server import USABLE, client_name, judging
from interop.known_faults import KnownFault
from interop.peers.base import End, EndError, Needs, Peer, ProcessEnd, Traits, UnsupportedError, Wishes
from interop.peers.ours import OurClientEnd, Ours
from interop.peers.parts import dtls_part
from interop.peers.programs import ProgramPeer
from interop.peers.registry import PEERS
from interop.report import as_json, as_junit, html, matrix, plain
from interop.report.html import page, unpacked
from interop.report.text import SIGNS
from interop.runner import Cell, Pair, Plan, empty_cell, judge, run_cell, run_plan
from interop.scenarios import SCENARIOS, registry
from interop.sound import sine
from interop.trial import Trial
from interop.verdict import Blame, Finding, Layer, Outcome, Verdict
from interop.wire_reading import Kind, dtls_records, handshake_fragments, kind_of, summary
from stack.session import media_plane, session
from stack.signaling.client import dial


class Missing(Peer):
    """A peer whose toolchain is not here."""

    name = "missing"
    needs = Needs("what nothing provides")

    def why_absent(self) -> str | None:
        return "its toolchain is not here"

    @asynccontextmanager
    async def start(self, side: Side, wishes: Wishes) -> AsyncIterator[End]:
        raise AssertionError("an absent peer was started")
        yield


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "No such command 'nonsense'."),
        (["run", "--jobs", "x", "ours"], "x is not a whole number from 1 to 64"),
        (["run", "ours", "--json", ""], "'' is no file: name one, or leave it out"),
        (["setup"], "Missing argument 'PEER …': python -m interop setup [OPTIONS] PEER …"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], told: str) -> None:
    command = [sys.executable, "-m", "interop", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_list_names_everything_with_its_citation() -> None:
    code, text = run("--list")
    assert code == 0
    for name in (*PEERS, *SCENARIOS):
        assert name in text
    assert all(scenario.sentence and "RFC" in scenario.cites for scenario in SCENARIOS.values())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "netscape"), "neither a peer nor a scenario"),
        (("run", "--target", "ftp://x"), "is not an http"),
        (("run", "--echoes", "all"), "about a --target"),
        (("run", "--against", "setup.cfg"), "--against"),
        (("run", "--against", "setup.cfg", "--html", "x.html"), "no result of --json"),
        (("run", "--repeat", "0"), "--repeat"),
        (("run", "--jobs", "0"), "--jobs"),
        (("run", "--update", "setup.cfg"), "--update: setup.cfg is no result of --json"),
        (("run", "--again"), "it needs --update"),
        (("quick", "audio"), "`quick` has its own"),
        (("setup", "audio"), "needs no setup"),
        (("setup", "netscape"), "neither a peer nor a scenario"),
        (("run", "Firefox"), "did you mean 'firefox'?"),
        (("run", "45 second"), "did you mean '45 seconds'?"),
        (("run", ""), "'' is neither"),
        (("45 seconds", "pion"), "no command but a scenario: `run '45 seconds' pion` runs it"),
        (("serve", "--keep", "setup.cfg/x"), "--keep"),
        (("run", "--json", "-"), "`-` is the name of none"),
        (("run", "--json", "same", "--junit", "./same"), "--json and --junit are both to write same"),
    ],
)
def test_a_mistake_of_the_user_is_one_clear_line(arguments: tuple[str, ...], words: str) -> None:
    code, text = run(*arguments)
    assert code == 2
    assert words in text
    assert "Traceback" not in text


def test_a_name_that_is_given_twice_is_run_once() -> None:
    assert chosen(["ours", "audio", "ours", "audio"]) == (["ours"], ["audio"])


@pytest.mark.parametrize("width", [40, 80, 200])
def test_every_pair_is_in_the_matrix_of_any_width(width: int) -> None:
    pairs, outcomes = pairs_of(list(PEERS.values())), cycle(Outcome)
    scenarios = ["audio", "network bad-wifi", "SRTP AES128_CM_HMAC_SHA1_80"]
    cells = [
        empty_cell(pair, SCENARIOS[name], Verdict(next(outcomes), "")) for pair in pairs for name in scenarios
    ]
    lines = list(matrix(cells, width))
    assert max(map(len, lines)) <= width
    numbers = [number for line in lines if line.split() and line.split()[0].isdecimal() for number in line.split()]
    labels = " ".join(lines)
    for number, pair in enumerate(pairs, 1):
        assert f"{number} {pair.label}" in labels
        assert str(number) in numbers
    for name in scenarios:
        rows = [line.removeprefix(name).split() for line in lines if line.startswith(f"{name} ")]
        signs = [SIGNS[cell.verdict.outcome] for cell in cells if cell.scenario == name]
        assert [sign for row in rows for sign in row] == signs
    assert not any(ord(letter) > 127 for line in lines for letter in plain(line))


def test_of_repetitions_the_worst_stands_in_the_matrix() -> None:
    pair = pairs_of([PEERS["ours"]])[0]
    verdicts = [Verdict(outcome, "") for outcome in (Outcome.PASSED, Outcome.FAILED, Outcome.PASSED)]
    cells = [empty_cell(pair, SCENARIOS["audio"], verdict) for verdict in verdicts]
    assert "audio  ✗" in list(matrix(cells, 80))


def test_the_run_ends_with_the_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(plan: Plan, _: object) -> None:
        passed = Verdict(Outcome.PASSED, "")
        plan.cells = [empty_cell(task.pair, task.scenario, passed) for task in plan.tasks()]

    monkeypatch.setattr("interop.cli.run_plan", at_once)
    code, text = run("run", "audio", "messages")
    assert code == 0
    for number, pair in enumerate(pairs_of(list(PEERS.values())), 1):
        assert f"{number} {pair.label}" in text
    assert "✓" not in run("run", "ours", "audio")[1]  # of one call there is no matrix


def test_what_others_say_can_break_neither_a_terminal_nor_a_file() -> None:
    said = "\x1b[2J\x00 \udc80 grüße \uffff\n"
    cell = empty_cell(
        pairs_of([PEERS["ours"]])[0], SCENARIOS["audio"], Verdict(Outcome.FAILED, said, further=(said,))
    )
    assert cell.verdict.sentence == "\\x1b[2J\\x00 \\udc80 grüße \\uffff\n"
    results = as_json([cell], 1.0)
    failure = ElementTree.fromstring(as_junit(results)).find(".//failure")
    assert failure is not None
    assert failure.get("message", "").strip() == cell.verdict.sentence.strip()
    assert unpacked(page(results))["now"]["cells"][0]["further"] == [cell.verdict.sentence]


@pytest.mark.parametrize("option", ["--json", "--junit", "--html", "--keep"])
@pytest.mark.parametrize("place", ["file/x", "folder", "long"])
def test_a_place_that_cannot_be_written_to_is_refused_before_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, option: str, place: str
) -> None:
    async def never(*_: object) -> None:
        raise AssertionError("the run began")

    monkeypatch.setattr("interop.cli.run_plan", never)
    (tmp_path / "file").write_text("not a folder", "utf-8")
    (tmp_path / "folder").mkdir()
    name = {"folder": "file" if option == "--keep" else "folder", "long": "x" * 300}.get(place, place)
    code, text = run("run", "ours", "audio", option, str(tmp_path / name))
    assert code == 2
    assert option in text
    assert "Traceback" not in text
    assert "File exists" not in text  # what is there is a file, where a folder is wanted


def test_the_place_of_a_report_is_made_before_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[bool] = []

    async def look(*_: object) -> None:
        seen.append((tmp_path / "new" / "kept").is_dir() and not (tmp_path / "new" / "r.json").exists())

    monkeypatch.setattr("interop.cli.run_plan", look)
    run(
        "run",
        "ours",
        "audio",
        "--json",
        str(tmp_path / "new" / "r.json"),
        "--keep",
        str(tmp_path / "new" / "kept"),
    )
    assert seen == [True]
    assert json.loads((tmp_path / "new" / "r.json").read_text("utf-8"))["cells"] == []


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_says_so_by_its_status(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals, jobs: str
) -> None:
    """Before the first cell is done, one at a time and side by side."""
    former = signal.getsignal(signal.SIGTERM)

    async def interrupted(*_: object) -> None:
        signal.raise_signal(number)
        await asyncio.Event().wait()

    monkeypatch.setattr("interop.cli.run_plan", interrupted)
    monkeypatch.setattr("interop.side_by_side.SideBySide.run", interrupted)
    code, text = run("run", "ours", "audio", "--jobs", jobs)
    assert code == 128 + number
    assert "interrupted" in text
    assert signal.getsignal(signal.SIGTERM) is former


def test_the_scenario_of_the_documentation_is_whole_and_its_name_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    text = Path("docs/interop.md").read_text("utf-8").partition("## Write a scenario")[2]
    code, imports = (block.partition("```")[0] for block in text.split("```python\n")[1:3])
    monkeypatch.setattr(registry, "SCENARIOS", dict(SCENARIOS))
    exec(compile(code, "mine.py", "exec"), {"__name__": "mine"})
    assert list(registry.SCENARIOS)[len(SCENARIOS) :] == ["no candidates, and a pause"]
    there = Path("interop/scenarios/__init__.py").read_text("utf-8")
    assert imports.strip().removesuffix(", mine") in there
    with pytest.raises(ValueError, match="already, in mine"):
        exec(compile(code, "mine.py", "exec"), {"__name__": "mine"})


def test_what_is_quick_is_a_few_scenarios_of_each_kind() -> None:
    quick = [name for name, each in SCENARIOS.items() if each.is_quick]
    assert 8 <= len(quick) <= 12
    assert sum(SCENARIOS[name].seconds for name in quick) < 70
    modules = {SCENARIOS[name].run.__module__ for name in quick}
    assert {
        f"interop.scenarios.{name}" for name in ("calls", "data", "endings", "handshakes", "hostile", "network")
    } <= modules
    assert not any(SCENARIOS[name].is_long or SCENARIOS[name].is_alone for name in quick)


def test_each_side_of_each_peer_has_its_column() -> None:
    labels = [pair.label for pair in pairs_of(list(PEERS.values()))]
    assert len(set(labels)) == len(labels)
    assert {"ours → ours", "chromium → ours", "ours → aiortc", "gstreamer → ours"} <= set(labels)
    assert "ours → gstreamer" in labels
    assert [pair.label for pair in pairs_of([PEERS["ffmpeg"]])] == ["ffmpeg → ours"]


async def test_an_absent_peer_is_absent_and_never_passed() -> None:
    plan = Plan(pairs_of([Missing()]), [SCENARIOS["audio"], SCENARIOS["messages"]])
    heard = []
    cells = await run_plan(plan, lambda cell, number, total: heard.append((number, total)))
    assert {cell.verdict.outcome for cell in cells} == {Outcome.ABSENT}
    assert heard == [(n, 4) for n in range(1, 5)]
    results = as_json(cells, 1.0)
    assert {cell["outcome"] for cell in results["cells"]} == {"absent"}
    root = ElementTree.fromstring(as_junit(results))
    assert len(root.findall(".//skipped")) == 4
    assert root.findall(".//failure") == []


class Recorded:
    """Stands for the program of a peer: it keeps what it is told."""

    name = "recorded"

    def __init__(self) -> None:
        self.told: dict[str, dict[str, object]] = {}

    async def do(self, command: str, **args: object) -> str:
        self.told[command] = args
        return "v=0"


def end_of(side: Side, *supported: str) -> tuple[ProcessEnd, Recorded]:
    lab = Recorded()
    return ProcessEnd(lab, side, needs_packets=True, supported=frozenset(supported)), lab  # type: ignore[arg-type]


async def test_a_program_is_told_whether_there_is_data_and_which_part_of_dtls_it_takes() -> None:
    client, told = end_of("client")
    await client.offer(Wishes(data=False, setup="active"))  # the part is what the answer chooses
    assert told.told["offer"]["data"] is False
    assert "setup" not in told.told["offer"]
    server, told = end_of("server", "setup")
    await server.accept("v=0", Wishes(setup="active"))
    assert told.told["accept"]["setup"] == "active"
    with pytest.raises(UnsupportedError, match="setup active"):
        await end_of("server")[0].accept("v=0", Wishes(setup="active"))


@pytest.mark.real_clock
async def test_a_client_that_only_sends_is_held_to_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for no sound and no messages, the server waits for no channel, and the verdict says so."""
    client = Ours()
    client.name = "sender"
    monkeypatch.setattr(client, "traits", Traits(hears=False, has_data=False))
    pair = Pair(client, PEERS["ours"], "client")
    cell = await run_cell(pair, SCENARIOS["audio"])
    assert cell.verdict.outcome is Outcome.PASSED, cell.verdict.sentence
    assert cell.verdict.sentence.endswith(
        "sender sends sound and takes none. sender has no data channels, and the call was made without."
    )
    assert cell.evidence is not None
    assert "m=application" not in cell.evidence.offer
    assert "server hears the client" in cell.evidence.steps
    assert "client hears the server" not in cell.evidence.steps
    for name in ("messages", "20 channels at once", "bundle max-bundle"):
        cell = await run_cell(pair, SCENARIOS[name])
        assert cell.verdict.outcome is Outcome.UNSUPPORTED
        assert cell.verdict.sentence == "sender has no data channels"


@pytest.mark.real_clock
async def test_what_a_client_that_only_sends_cannot_show_is_never_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is seen of a server's silence, of its speech, or of messages where the client takes neither."""
    client = Ours()
    client.name = "sender"
    monkeypatch.setattr(client, "traits", Traits(hears=False, has_data=False, plays_speech=False))
    monkeypatch.setattr(OurClientEnd, "mute", End.mute)
    pair = Pair(client, PEERS["ours"], "client")

    async def only_messages(trial: Trial) -> None:
        await trial.connect()
        await trial.also_messages(("hello",))
        await trial.messages(("hello",))

    audio = SCENARIOS["audio"]
    for tried, words in (
        (SCENARIOS["mute"], "neither side can be muted and heard"),
        (replace(SCENARIOS["speech"], wishes=Wishes()), "neither side can be given speech"),
        (replace(audio, run=only_messages), "without data channels"),
    ):
        cell = await run_cell(pair, tried)
        assert cell.verdict.outcome in (Outcome.UNSUPPORTED, Outcome.ABSENT), cell.verdict.sentence
        assert words in cell.verdict.sentence or cell.verdict.outcome is Outcome.ABSENT


def test_only_a_program_that_is_given_the_sound_plays_speech() -> None:
    said = {
        name: PEERS[name].traits.plays_speech
        for name in ("aiortc", "pion", "wrtc", "ffmpeg", "openssl", "pipecat")
    }
    assert said == {
        "aiortc": True,
        "pion": True,
        "wrtc": False,
        "ffmpeg": False,
        "openssl": False,
        "pipecat": False,
    }


@pytest.mark.parametrize(
    ("profile", "is_refused"), [("AES128_CM_HMAC_SHA1_80", False), ("AEAD_AES_128_GCM", True)]
)
async def test_a_part_of_one_srtp_profile_is_held_to_that_one(profile: str, is_refused: bool) -> None:
    part = dtls_part("part", Needs("nothing"), lambda: None, lambda: "1", "1.2")
    part.command = ("/no/such/program",)
    expected = UnsupportedError if is_refused else EndError
    with pytest.raises(expected):
        async with part.start("server", Wishes(srtp=profile)):
            pass


def test_a_program_that_cannot_be_compiled_is_absent(tmp_path: Path) -> None:
    source = tmp_path / "peer.c"
    source.write_text("#include <no_such_header.h>\n", "utf-8")
    with pytest.raises(Absent, match=r"no_such_header.h|there is no cc"):
        SmallProgram(source, (), "none").build()


FAILED = Finding("expectation", Layer.SOUND, None, "a tone", "RFC 3264 §6.1", "silence")


def judged(
    finding: Finding | None,
    monkeypatch: pytest.MonkeyPatch,
    *known: KnownFault,
    standstills: Sequence[tuple[float, float]] = (),
) -> Cell:
    monkeypatch.setattr(known_faults, "KNOWN_FAULTS", known)
    pair, scenario = Pair(Missing(), PEERS["ours"], "client"), SCENARIOS["audio"]
    verdict = judge(pair, scenario, Evidence("missing", "ours", standstills=[*standstills]), finding)
    return Cell(pair.label, "missing", "1", "client", "audio", verdict)


def test_a_known_fault_is_no_news_and_red_when_it_heals(monkeypatch: pytest.MonkeyPatch) -> None:
    known = KnownFault("missing", "client", "audio", "expectation", "1.0", "It is silent")
    verdict = judged(FAILED, monkeypatch, known).verdict
    assert (verdict.outcome, verdict.blame) == (Outcome.KNOWN, Blame.THEIRS)
    assert verdict.sentence.startswith("It is silent (1.0)")
    assert not verdict.outcome.is_red
    assert judged(None, monkeypatch, known).verdict.outcome is Outcome.HEALED
    assert Outcome.HEALED.is_red
    whatever = KnownFault("missing", "client", "audio", "", "1.0", "It is silent, sooner or later")
    for rule in ("expectation", "one-way-audio", "sound-stopped"):
        assert judged(replace(FAILED, rule=rule), monkeypatch, whatever).verdict.outcome is Outcome.KNOWN
    another = KnownFault("missing", "client", "audio", "bursts", "1.0", "It sends in bursts")
    assert judged(FAILED, monkeypatch, another).verdict.outcome is Outcome.FAILED


def test_no_end_is_blamed_where_the_harness_had_no_core(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = Finding("consent", Layer.ICE, "client", "a response", "RFC 7675 §5.1", "none")
    for standstills, blame in (((1.0, 1.9), (3.0, 3.9)), Blame.THEIRS), (((1.0, 5.1),), Blame.UNCLEAR):
        verdict = judged(finding, monkeypatch, standstills=standstills).verdict
        assert (verdict.outcome, verdict.blame) == (Outcome.FAILED, blame)
        assert ("no core for 4.1 s" in verdict.sentence) is (blame is Blame.UNCLEAR)
    assert judged(None, monkeypatch, standstills=[(1.0, 5.1)]).verdict.outcome is Outcome.PASSED


def test_blame_follows_the_side(monkeypatch: pytest.MonkeyPatch) -> None:
    for side, blame in (("client", Blame.THEIRS), ("server", Blame.OURS), (None, Blame.UNCLEAR)):
        finding = Finding("x", Layer.MEDIA, side, "a", "RFC 3550 §5.1", "b")  # type: ignore[arg-type]
        assert judged(finding, monkeypatch).verdict.blame is blame
    sentence = judged(FAILED, monkeypatch).verdict.sentence
    assert sentence == "expected a tone (RFC 3264 §6.1), seen silence."


def test_the_page_holds_everything_and_no_result_can_break_out(monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = Finding("x", Layer.MEDIA, None, "</script><img src=x>", "RFC 3550 §5.1", "<!-- b")
    results = as_json([judged(hostile, monkeypatch)], 1.0)
    text = page(results, results)
    assert "<img" not in text
    assert text.count("</script>") == 2
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert unpacked(text)["former"]["cells"][0]["sentence"].startswith("expected </script>")


def test_a_page_that_grows_too_large_loses_drawings_and_keeps_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    random, calls = Random(1), {}
    for name in ("passed", "failed"):
        noise = random.randbytes(60_000).hex()
        empty: dict[str, object] = {
            "levels": {"client": [[0.1, 0.2]], "server": []},
            "waterfall": {noise[-9000:]: 0.1},
        }
        calls[name] = {**empty, "offer": noise, "answer": "", "first": [{"what": noise[:20_000]}]}
    results = as_json([judged(FAILED, monkeypatch)], 1.0)
    (cell,) = results["cells"]
    results["cells"] = [{**cell, "outcome": name, "call": call} for name, call in calls.items()]
    seen, size = [], 1 << 30
    for _ in range(5):
        monkeypatch.setattr(html, "MAX_PAGE", size - 1)
        text = page(results)
        assert len(text.encode()) < size
        size = len(text.encode())
        told = unpacked(text)
        assert [each["sentence"] for each in told["now"]["cells"]] == [cell["sentence"]] * 2
        offers = [None if each["call"] is None else bool(each["call"]["offer"]) for each in told["now"]["cells"]]
        seen.append((offers, told["left"]))
    assert seen == [
        ([True, True], ""),
        ([False, True], "the descriptions of calls that passed"),
        ([False, True], "the descriptions, packets and levels of calls that passed"),
        ([None, True], "the calls that passed"),
        ([None, None], "the calls"),
    ]


def test_the_reader_of_datagrams_survives_noise() -> None:
    random = Random(5)
    for _ in range(20_000):
        data = random.randbytes(random.randrange(0, 80))
        if random.random() < 0.5 and data:
            data = bytes((random.choice((0, 1, 20, 22, 23, 44, 63, 128, 144)),)) + data[1:]
        assert kind_of(data) in Kind
        assert summary(data)
        for record in dtls_records(data):
            for piece in handshake_fragments(record):
                assert piece.name


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("", "a client"),
        ("curl/8.1", "curl/8.1"),
        ("Mozilla/5.0 (X11; Linux) Gecko/20100101 Firefox/153.0", "Firefox/153.0"),
        ("Mozilla/5.0 AppleWebKit/537.36 (KHTML) Chrome/156.0.0.0 Safari/537.36", "Chrome/156.0.0.0"),
    ],
)
def test_a_client_is_named_by_its_user_agent(agent: str, name: str) -> None:
    assert client_name(agent) == name


@pytest.mark.real_clock
async def test_our_own_call_passes_and_is_drawn() -> None:
    """The smallest whole run: a real call through the tap, and what the report shows of it."""
    pair = Pair(PEERS["ours"], PEERS["ours"], "server")
    cell = await run_cell(pair, SCENARIOS["audio"])
    assert cell.verdict.outcome is Outcome.PASSED, cell.verdict.sentence
    call = as_json([cell], 1.0)["cells"][0]["call"]
    assert next(iter(call["waterfall"])) == "offer made"
    assert {"first check", "first DTLS datagram", "client connected", "first RTP from the server"} <= set(
        call["waterfall"]
    )
    assert call["negotiated"]["DTLS"] in ("1.2", "1.3")
    assert call["first"][0]["what"].startswith("Binding request")
    assert max(level for _, level in call["levels"]["client"]) > 0.1


@pytest.mark.real_clock
async def test_a_client_of_other_people_is_judged_live(tmp_path: Path) -> None:
    """`serve`: our own client dials in as a stranger would; a silent one is told so."""
    assert {"audio", "lost-answer", "garbage"} <= set(USABLE)
    async with judging("127.0.0.1", 0, tmp_path) as (server, url), dial(f"{url}/audio/whip") as placed:
        await placed.call.wait_connected()
        await placed.call.wait_ended()
        while server.calls[0]["outcome"] == "running":
            await asyncio.sleep(0.02)
    (told,) = server.calls
    assert (told["scenario"], told["outcome"]) == ("audio", "failed")
    assert told["rule"] in ("one-way-audio", "expectation")
    assert "silence" in told["sentence"] or "not one from the client" in told["sentence"]
    assert (tmp_path / told["id"] / "call.pcap").exists()


@pytest.mark.real_clock
async def test_an_offer_of_no_letters_is_refused_with_a_verdict() -> None:
    """Bytes that are no UTF-8, under a charset that there is not."""
    headers = {"Content-Type": "application/sdp; charset=none"}
    async with (
        judging("127.0.0.1", 0) as (server, url),
        aiohttp.ClientSession(headers=headers) as http,
        http.post(f"{url}/whip", data=b"v=0\r\n\xff\xfe") as response,
    ):
        assert response.status == 406
        said = await response.text()
    (told,) = server.calls
    assert (told["outcome"], told["sentence"]) == ("failed", said)


def test_a_visitor_is_asked_for_one_call_alone() -> None:
    assert all(each.calls == 1 for each in USABLE.values())


@pytest.mark.real_clock
@pytest.mark.parametrize("amplitude", [0, 20, 8_000])
@pytest.mark.parametrize("scenario", ["audio", "no-candidates"])
async def test_a_visitor_that_sends_silence_does_not_pass_where_sound_is_judged(
    scenario: str, amplitude: int
) -> None:
    """Also where nothing but the sound of the server is asked for, of which a visitor does not tell."""
    noise = np.random.default_rng(1).integers(-amplitude, amplitude + 1, 20 * 16_000).astype(np.int16)
    async with judging("127.0.0.1", 0) as (server, url), dial(f"{url}/{scenario}/whip") as placed:
        await placed.call.wait_connected()
        placed.call.speaker.write(noise, 16_000)
        while server.calls[0]["outcome"] == "running":
            await asyncio.sleep(0.02)
    (told,) = server.calls
    if amplitude > 1_000:
        assert told["outcome"] == "passed", told["sentence"]
        return
    assert (told["outcome"], told["blame"], told["rule"]) == ("failed", "theirs", "silence")
    assert re.search(r"seen silence: \d+ RTP packets in \d+\.\d s, which hold", told["sentence"])


@pytest.mark.real_clock
async def test_of_two_visitors_at_a_time_each_is_judged_by_its_own_call() -> None:
    """What our ends tell from inside goes to the call that it is about, and the last to leave puts all back."""
    former = session.make_channels, media_plane.SrtpEngine
    sound = sine(440, 1, 16_000)
    async with judging("127.0.0.1", 0) as (server, url), AsyncExitStack() as stack:
        for _ in range(2):
            placed = await stack.enter_async_context(dial(f"{url}/audio/whip"))
            await placed.call.wait_connected()
            placed.call.speaker.write(np.tile(sound, 20), 16_000)
            assert session.make_channels is not former[0]
        while any(call["outcome"] == "running" for call in server.calls):
            await asyncio.sleep(0.02)
    assert [call["outcome"] for call in server.calls] == ["passed", "passed"], server.calls
    assert (session.make_channels, media_plane.SrtpEngine) == former


READY = 'print(\'{"id": 0, "result": null}\', flush=True); '


@pytest.mark.parametrize(
    ("program", "patience", "words"),
    [
        ("import time; time.sleep(600)", 1, "hanging was started and has not said that it is ready"),
        (f"import time; {READY}time.sleep(600)", 8, "hanging has not answered `offer`"),
    ],
    ids=["never ready", "no answer"],
)
async def test_a_peer_that_hangs_is_named(
    program: str, patience: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "PATIENCE", patience)
    peer = ProgramPeer("hanging", Needs(""), (sys.executable, "-S", "-c", program), lambda: None, lambda: "")
    cell = await run_cell(Pair(peer, PEERS["ours"], "client"), replace(SCENARIOS["audio"], seconds=0))
    assert cell.verdict == Verdict(Outcome.BROKEN, f"no end within {patience} s: {words}")
