"""What `docs/extending.md` adds with one file is added so to a copy of the code, which then uses it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text("utf-8")
FILES = dict(re.findall(r"`(stack/[\w/]+\.py)`:\n\n```python\n(.*?)```\n", PAGE, re.DOTALL))
CODEC = '''
"""The coding of PCMU under another name."""

from stack.audio.codec import Codec, register_codec
from stack.audio.codecs.g711 import PCMU

register_codec(Codec("X-NEW", 8_000, 30, PCMU.make_decoder, PCMU.make_encoder))
'''
TWO_LINES = (
    (
        "from stack.signaling import offer, realtime, whip",
        "from stack.signaling import offer, plain, realtime, whip",
    ),
    ("    whip.prepare(app)\n", "    whip.prepare(app)\n    plain.prepare(app)\n"),
)

CHECKS = {
    "rtcp": """
from random import Random
from stack.rtp import RtcpReceived, RtpCodec, RtpConfig, RtpTransport

config = RtpConfig(ssrc=0x1111, cname="near", codecs=(RtpCodec(111, "opus", 48_000),))
transport = RtpTransport((config,), Random(1).randbytes, 0.0)
transport.handle_rtcp(bytes.fromhex("81ce0002 00000001 00001111"), 0.0)
(event,) = transport.drain_events()
assert isinstance(event, RtcpReceived) and type(event.packet).__name__ == "PictureLossIndication", event
assert event.packet.serialize() == bytes.fromhex("81ce0002 00000001 00001111")
""",
    "stun": """
from stack.stun import Message, MessageClass, Method, TransactionId, UnknownAttribute

attribute = UnknownAttribute(0x002A, bytes.fromhex("00000258"))
data = Message(MessageClass.REQUEST, Method.BINDING, TransactionId(bytes(12)), (attribute,)).serialize()
message = Message.parse(data)
assert message.unknown_required == () and message.serialize() == data
(read,) = message.attributes
assert (type(read).__name__, read.value) == ("ConnectionId", 600), read
""",
    "sctp": """
from stack.sctp import Packet, build_packet
from stack.sctp.chunks import ErrorChunk, parse_chunk
from tests.sim.sctp import make_associations

chunk = parse_chunk(0x84, 0, bytes(5))
assert type(chunk).__name__ == "PadChunk" and chunk.size == 5, chunk
pair = make_associations()
pair.b.handle_datagram(build_packet(5000, 5000, pair.b._tcb.local.tag, [chunk.serialize()]), pair.now)
assert pair.b.counters["sctp.dropped_chunk_out_of_place"] == 0
(cause,) = ErrorChunk.parse(0, bytes.fromhex("00a00004")).causes
assert str(cause) == "delete last address", cause
""",
    "codec": """
from stack.sdp import SessionDescription, negotiate
from stack.session import LocalWishes
from stack.voice.config import make_decoder, offered_codecs
from tests.sdp.offers import AUDIO, HEAD, our_side
from dataclasses import replace

codecs = offered_codecs()
assert codecs[1].encoding == "X-NEW", codecs
local = our_side()
local = replace(local, audio=replace(local.audio, codecs=codecs))
agreed = negotiate(SessionDescription.parse(HEAD + AUDIO.replace("opus/48000/2", "x-new/8000")), local)
assert agreed.audio.codec.lower() == "x-new"
assert len(make_decoder(agreed.audio.codec, 16_000).decode(bytes(160))) == 320
""",
    "dialect": """
import asyncio
from pathlib import Path
import aiohttp
from stack.agents.echo import echo
from stack.aio import HostConfig
from stack.signaling.server import ServeConfig, serving

async def main():
    media = HostConfig(udp_port=0)
    async with serving(echo, ServeConfig(port=0, media=media)) as server, aiohttp.ClientSession() as http:
        offer = Path("tests/vectors/offers/firefox153-audio_dc.sdp").read_text("utf-8")
        async with http.post(f"{server.url}/plain", data=offer) as response:
            assert response.status == 201, await response.text()
            assert (await response.text()).startswith("v=0")
        async with http.post(f"{server.url}/plain", data="nonsense") as response:
            assert response.status == 400

asyncio.run(main())
""",
}


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code with the page's files in it."""
    place = tmp_path_factory.mktemp("extended")
    for package in (
        "stack",
        "tests/rtp",
        "tests/sctp",
        "tests/sdp",
        "tests/sim",
        "tests/vectors/offers",
        "interop",
    ):
        shutil.copytree(
            ROOT / package, place / package, ignore=shutil.ignore_patterns("__pycache__", "node_modules")
        )
    shutil.copy(ROOT / "tests" / "__init__.py", place / "tests")
    for name, text in (FILES | {"stack/audio/codecs/new.py": CODEC}).items():
        assert not (place / name).exists()
        (place / name).write_text(text, "utf-8")
    app = place / "stack" / "signaling" / "app.py"
    changed = app.read_text("utf-8")
    for before, after in TWO_LINES:
        assert changed.count(before) == 1
        changed = changed.replace(before, after)
    app.write_text(changed, "utf-8")
    return place


@pytest.mark.real_clock
@pytest.mark.parametrize("what", CHECKS)
def test_one_file_is_enough(extended: Path, what: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHECKS[what]],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=extended,
        env=os.environ | {"PYTHONPATH": str(extended), "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_page_shows_every_kind() -> None:
    assert {Path(name).parent.as_posix() for name in FILES} == {
        "stack/rtp/rtcp",
        "stack/stun/attributes",
        "stack/sctp/chunks",
        "stack/sctp/procedures",
        "stack/signaling",
    }
    rows = re.findall(r"^\| .+ \|$", PAGE, re.MULTILINE)
    for name in re.findall(r"`((?:stack|tests)/[\w/.]+)`", "\n".join(rows)):
        assert (ROOT / name).exists(), name
