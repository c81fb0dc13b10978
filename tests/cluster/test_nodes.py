"""Which node gets the next call."""

from __future__ import annotations

from stack.cluster.backbone import Backbone, BackboneConfig
from stack.cluster.messages import NodeRecord
from stack.cluster.nodes import NodeBook


def record(name: str, region: str, calls: int) -> NodeRecord:
    return NodeRecord(name, region, "", (), (), (), 10, calls)


async def chosen(region: str, *records: NodeRecord, but: str = "") -> set[str]:
    """Return the nodes that calls go to; the engine is not there, and what is known stays."""
    book = NodeBook(Backbone(BackboneConfig(("nats://127.0.0.1:1",)), "test"), region)
    for each in records:
        book.note(each)
    nodes = (book.choose(but) for _ in range(100))
    return {node.name for node in nodes if node is not None}


async def test_nodes_of_our_region_go_first_while_they_have_room() -> None:
    near, nearer = record("n1", "eu", 9), record("n2", "eu", 8)
    far, full = record("n3", "us", 0), record("n1", "eu", 10)
    assert await chosen("eu", near, far) == {"n1"}
    assert await chosen("eu", near, nearer, far) == {"n2"}
    assert await chosen("eu", full, far) == {"n3"}
    assert await chosen("eu", near, far, but="n1") == {"n3"}
    assert await chosen("asia", near, far) == {"n3"}


async def test_without_a_region_the_load_decides() -> None:
    assert await chosen("", record("n1", "", 5), record("n2", "eu", 0)) == {"n2"}


async def test_a_full_cluster_has_no_node() -> None:
    assert await chosen("eu", record("n1", "eu", 10), record("n2", "us", 12)) == set()
