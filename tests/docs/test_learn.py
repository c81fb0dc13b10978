"""The bytes of *Learn* are those of the recorded call, and a call of today tells the same story."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from stack.rtp.packet import RtpPacket
from stack.session.demux import Kind
from tools.captured_call import Sender, open_call
from tools.learn import MARK, PAGES, Story, blocks, fill
from tools.record_call import RecordedCall, record

FOUND = blocks(Story(RecordedCall.load()))
CHAPTERS = sorted(PAGES.glob("*.md"))


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_the_bytes_are_those_of_the_recording(page: Path) -> None:
    text = page.read_text("utf-8")
    assert text == fill(text, FOUND), "run `make learn`"


def test_every_block_stands_somewhere() -> None:
    shown = {name for page in CHAPTERS for name in MARK.findall(page.read_text("utf-8"))}
    assert shown == set(FOUND)


def test_every_byte_of_a_dump_is_the_datagrams() -> None:
    """Offsets follow from the bytes before them: none is left out or counted twice."""
    story = Story(RecordedCall.load())
    for name, data in (
        ("stun-request", story.of(Kind.STUN)[0].data),
        ("srtp", story.of(Kind.RTP, Sender.CLIENT)[0].data),
        ("report", [each for each in story.of(Kind.RTCP) if each.plain[1] == 200][1].plain),
    ):
        shown = 0
        for line in FOUND[name].splitlines():
            if more := re.fullmatch(r" +… (\d+) more", line):
                shown += int(more[1])
                continue
            offset, numbers = int(line[:4]), bytes.fromhex(line[6:30])
            assert offset == shown
            assert data[offset : offset + len(numbers)] == numbers
            shown += len(numbers)
        assert shown == len(data), name


def test_the_numbers_in_the_text() -> None:
    """What the sentences say of the recording."""
    story = Story(RecordedCall.load())
    first, response = story.of(Kind.STUN)[:2]
    text = (PAGES / "2-path.md").read_text("utf-8")
    assert f"message, {len(first.data)} bytes long" in text
    assert f"came {response.at_ms - first.at_ms:g} ms later" in text
    assert f"next check, {story.of(Kind.STUN)[2].at_ms:g} ms later" in text
    sound = RtpPacket.parse(story.of(Kind.RTP, Sender.CLIENT)[0].plain)
    assert f"makes {len(sound.payload)} of the first frame" in (PAGES / "4-sound.md").read_text("utf-8")
    end = (PAGES / "8-end.md").read_text("utf-8")
    last, before = story.datagrams[-1], story.datagrams[-2]
    assert f"datagram {last.number}, {len(last.data)} bytes" in end
    assert f"{len(before.data)} bytes encrypted" in end


@pytest.mark.real_clock
async def test_a_call_of_today_tells_the_same_story(tmp_path: Path) -> None:
    async with asyncio.timeout(60):
        recorded = await record()
    recorded.save(tmp_path)
    call = RecordedCall.load(tmp_path)
    assert call == recorded
    datagrams = open_call(call)
    assert [each.kind for each in datagrams[:3]] == [Kind.STUN, Kind.STUN, Kind.DTLS]
    assert [each.sender for each in datagrams[:4]] == [Sender.CLIENT, Sender.SERVER, Sender.CLIENT, Sender.SERVER]
    assert {each.kind for each in datagrams} == {Kind.STUN, Kind.DTLS, Kind.RTP, Kind.RTCP}
    story = Story(call)
    today = blocks(story)
    assert set(today) == set(FOUND)
    assert today["message"].splitlines()[-1].endswith("the message")
    assert "close_notify" in today["timeline"].splitlines()[-1]
    # What does not depend on chance is the same to the byte.
    for name in ("server-flight", "client-flight"):
        names = [line.split()[-1] for line in today[name].splitlines()[1:]]
        assert names == [line.split()[-1] for line in FOUND[name].splitlines()[1:]]
