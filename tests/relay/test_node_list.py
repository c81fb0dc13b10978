"""How a relay is told of its nodes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stack.cluster.messages import NodeRecord
from stack.cluster.relay_nodes import address_of
from stack.core.errors import ParseError
from stack.core.machine import Address
from stack.relay.node_list import NodeFeed, read_address, read_line, read_node

LINE = b"n1=10.0.0.1:3478 n2=10.0.0.2:3478"
LEARNED = {"n1": Address("10.0.0.1", 3478), "n2": Address("10.0.0.2", 3478)}


def test_a_node_is_a_part_and_an_address() -> None:
    assert read_node("n1=192.0.2.7:3478") == ("n1", Address("192.0.2.7", 3478))
    assert read_node("eu/1=[2001:db8::0:1]:9") == ("eu/1", Address("2001:db8::1", 9))


@pytest.mark.parametrize(
    "text",
    ["", "n1", "n1=", "=192.0.2.7:1", "n-1=192.0.2.7:1", "n1=192.0.2.7", "n1=192.0.2.7:0", "n1=192.0.2.7:70000",
     "n1=host:1", "n1=2001:db8::1:9", "n1=0.0.0.0:1", "n1=192.0.2.7:１", f"{'n' * 65}=192.0.2.7:1"],
)  # fmt: skip
def test_what_is_no_node(text: str) -> None:
    with pytest.raises(ParseError):
        read_node(text)


@pytest.mark.parametrize("text", ["", ":1", "192.0.2.7:", "[::]:1"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ParseError):
        read_address(text)


@pytest.mark.parametrize(
    "line", [b"", b" \n", b"[]", b"n1", b"n1=host:1", b"n1=10.0.0.1:x", b"n1=10.0.0.1:1 n2", b"\xff"]
)
def test_what_is_no_line(line: bytes) -> None:
    with pytest.raises(ParseError):
        read_line(line)


def test_what_a_child_says_is_kept_for_the_next_start(tmp_path: Path) -> None:
    kept = tmp_path / "flows.nodes"
    feed = NodeFeed([], {"n2": Address("10.9.9.9", 1)}, str(kept))
    assert dict(feed.nodes) == {"n2": Address("10.9.9.9", 1)}
    feed.watch, write = os.pipe()
    os.set_blocking(feed.watch, False)
    os.write(write, b"nonsense\n" + LINE[:20])
    assert feed.read() is False  # a line that is none, and half of one
    os.write(write, LINE[20:] + b"\n")
    assert feed.read() is True
    assert dict(feed.nodes) == {**LEARNED, "n2": Address("10.9.9.9", 1)}  # what was told goes first
    os.close(write)
    os.close(feed.watch)
    assert kept.stat().st_mode & 0o077 == 0
    assert dict(NodeFeed([], {}, str(kept)).nodes) == LEARNED
    kept.write_bytes(b"torn")
    assert dict(NodeFeed([], {}, str(kept)).nodes) == {}


def test_of_a_nodes_addresses_the_first_of_the_family_is_taken() -> None:
    def record(*addresses: Address) -> NodeRecord:
        return NodeRecord("n1", "", "", addresses, (), (), 10, 0)

    loopback, one, other = Address("127.0.0.1", 1), Address("10.0.0.1", 1), Address("10.0.0.2", 1)
    six = Address("2001:db8::1", 1)
    assert address_of(record(loopback, one, other, six), is_ipv6=False) == one
    assert address_of(record(loopback), is_ipv6=False) == loopback
    assert address_of(record(loopback, six), is_ipv6=True) == six
    assert address_of(record(loopback), is_ipv6=True) is None
