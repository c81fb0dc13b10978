"""What the guide says of Wireshark: with a capture and the keys of a call it opens what was said in it."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from stack.agents.echo import echo
from stack.aio import HostConfig
from stack.dtls import Version
from stack.signaling.client import DialConfig, dial
from stack.signaling.server import ServeConfig, serving
from stack.voice.config import ConversationConfig

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "troubleshooting.md").read_text("utf-8")
MESSAGE = "open sesame"


@pytest.mark.real_clock
async def test_a_message_can_be_read(tmp_path: Path) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed here: no capture was read with it")
    pcap, keys = tmp_path / "call.pcap", tmp_path / "call.keys"
    media = HostConfig(
        host="127.0.0.1", udp_port=0, conversation=ConversationConfig(dtls_version=Version.DTLS_1_2)
    )
    config = ServeConfig(port=0, pcap=str(pcap), key_log=str(keys), media=media)
    async with asyncio.timeout(30), serving(echo, config) as server:
        (port,) = {address.port for address in server.host.addresses}
        async with dial(server.url, DialConfig(ConversationConfig(dtls_in_stun=False))) as placed:
            await placed.call.wait_connected()
            channel = await placed.call.open_channel("chat")
            await channel.send(MESSAGE)
            await (await next(iter(server.host.calls.values())).channels.wait_for("chat")).__anext__()
    (line,) = re.findall(r"^    (tshark .*)$", GUIDE, re.MULTILINE)
    words = line.replace("call.pcap", str(pcap)).replace("call.keys", str(keys)).replace("3478", str(port)).split()
    shown = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "Decrypted DTLS" in shown
    assert MESSAGE in shown
