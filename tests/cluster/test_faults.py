"""What goes wrong beside a call: processes that hang, a store that is lost, names that are taken, versions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from stack.aio.host import HostConfig
from stack.cluster.backbone import Backbone, BackboneConfig
from stack.cluster.messages import BACKBONE_VERSION, PROGRAMS, NodeRecord, take_subject
from stack.cluster.nodes import BUCKET, NodeBook, NodeRegistration
from stack.cluster.remote_program import RemoteProgram
from stack.cluster.roles import MediaNode, RoleConfig
from stack.core.errors import LocalError
from stack.signaling.client import dial
from stack.signaling.server import ServeConfig
from tests.cluster.engine import Engine
from tests.cluster.test_calls import Told, agent, node
from tests.listening import until

pytestmark = [pytest.mark.real_clock]
PATIENCE = 20.0


@asynccontextmanager
async def connected(engine: Engine, name: str) -> AsyncIterator[Backbone]:
    backbone = Backbone(BackboneConfig((engine.url,)), name)
    await backbone.start()
    try:
        yield backbone
    finally:
        await backbone.stop()


# -- processes that hang -----------------------------------------------------------------------------------


@asynccontextmanager
async def hanging(engine: Engine, processes: int) -> AsyncIterator[list[str]]:
    """Context: so many processes are in the queue group, and answer nothing; yields what they were offered."""
    offered: list[str] = []
    async with AsyncExitStack() as stack:
        for number in range(processes):
            backbone = await stack.enter_async_context(connected(engine, f"hanging {number}"))
            await backbone.subscribe(
                take_subject("default"), lambda subject, data, reply: offered.append(subject), PROGRAMS
            )
            await backbone.client.flush()
        yield offered


@pytest.mark.parametrize("has_local", [False, True])
async def test_processes_that_hang_cost_a_call_one_offer(engine: Engine, has_local: bool) -> None:
    """The queue group goes on choosing them until NATS notices, which takes minutes."""
    remote, local = Told(), Told()
    async with (
        node(engine, local=local if has_local else None) as server,
        hanging(engine, 8) as offered,
        agent(engine, remote),
    ):
        for number in range(1, 4):
            async with dial(server.url) as ours:
                await asyncio.wait_for(ours.call.wait_connected(), PATIENCE)
                await until(lambda number=number: len(remote.calls) == number, PATIENCE)
        assert local.calls == []
        assert len(offered) <= 3


async def test_where_all_processes_hang_the_nodes_own_program_takes_the_call(engine: Engine) -> None:
    local = Told()
    async with node(engine, local=local) as server, hanging(engine, 2) as offered, dial(server.url) as ours:
        await asyncio.wait_for(ours.call.wait_connected(), PATIENCE)
        await until(lambda: bool(local.calls), PATIENCE)
        assert len(offered) == 1


# -- a store that is lost ----------------------------------------------------------------------------------


@pytest.fixture
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.cluster.nodes.SAY_EVERY", 0.1)
    monkeypatch.setattr("stack.cluster.nodes.WATCH_PATIENCE", 0.5)


@asynccontextmanager
async def followed(engine: Engine) -> AsyncIterator[tuple[NodeBook, Backbone, list[int]]]:
    """Context: a node and who follows it; the node says the last of the list as the number of its calls."""
    calls = [0]
    async with connected(engine, "node") as one, connected(engine, "signaling") as other:
        registration = NodeRegistration(
            one, lambda: NodeRecord("n1", "", "", (), (), (), capacity=100, calls=calls[-1])
        )
        book = NodeBook(other)
        registration.start()
        book.start()
        await until(lambda: [each.calls for each in book.nodes] == [0], PATIENCE)
        yield book, other, calls
        await registration.stop()
        await book.stop()


@pytest.mark.usefixtures("in_a_hurry")
async def test_a_bucket_that_is_deleted_is_made_and_followed_again(engine: Engine) -> None:
    async with followed(engine) as (book, backbone, calls):
        await backbone.client.jetstream().delete_stream(f"KV_{BUCKET}")
        calls.append(7)
        await until(lambda: [each.calls for each in book.nodes] == [7], PATIENCE)


@pytest.mark.usefixtures("in_a_hurry")
async def test_an_engine_that_comes_back_without_its_store_is_filled_again(engine: Engine) -> None:
    async with followed(engine) as (book, backbone, calls):
        engine.stop()
        assert [each.name for each in book.nodes] == ["n1"]  # what was known stays
        engine.forget()
        calls.append(7)
        engine.start()
        await until(lambda: backbone.is_up and [each.calls for each in book.nodes] == [7], PATIENCE)


# -- names and versions ------------------------------------------------------------------------------------


async def test_a_name_that_another_node_has_is_refused(engine: Engine) -> None:
    role = RoleConfig(BackboneConfig((engine.url,)))
    config = ServeConfig(media=HostConfig(node="n1"))
    async with node(engine):
        with pytest.raises(LocalError, match="another media node is called 'n1'"):
            async with MediaNode(role, config, None).running():
                pass
    async with MediaNode(role, config, None).running():  # it is gone
        pass


async def test_a_node_of_another_version_asks_other_processes(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote, local = Told(), Told()
    async with agent(engine, remote):
        monkeypatch.setattr("stack.cluster.messages.BACKBONE_VERSION", BACKBONE_VERSION + 1)
        async with node(engine, local=local) as server, dial(server.url) as ours:
            await asyncio.wait_for(ours.call.wait_connected(), PATIENCE)
            await until(lambda: bool(local.calls), PATIENCE)
        assert remote.calls == []


async def test_a_node_that_starts_without_an_engine_has_its_name(engine: Engine) -> None:
    engine.stop()
    async with connected(engine, "node") as backbone:
        program = RemoteProgram(backbone, "n1")
        await program.start()
        await program.stop()
    assert backbone.counters.snapshot().get("backbone.fault_message", 0) == 0
