"""A host without media: it answers offers for the nodes that have them, by tickets, and keeps nothing.

The answer's username fragment names the node, its candidates are the node's, and the first packet makes the
call there (docs/tickets.md). What the request said is sent after it over the backbone; if that is gone, the
program is told what the ticket holds. An offer whose answer no ticket can hold is sent to the node's own HTTP
(307), which its client repeats there. So any number of these processes may stand behind one address, and any of
them may die.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from stack.aio import Call, CallContext, CallElsewhere, HostConfig, HostFull, IceMode
from stack.aio.host import AnsweredByTicket, Host
from stack.aio.media import MediaTally
from stack.aio.tickets import TicketConfig, TicketIssuer
from stack.cluster.backbone import Backbone
from stack.cluster.messages import EXPECTED, ExpectedCall, NodeRecord, node_subject
from stack.cluster.nodes import NodeBook
from stack.core.counters import Counters
from stack.core.errors import LocalError
from stack.core.machine import Address
from stack.core.trace import PacketTrace
from stack.core.values import check_json
from stack.dtls import KeyLog
from stack.ice import MAX_WORKERS
from stack.sdp import SessionDescription, awaits_checks

MAX_ISSUERS = 1000
"""Nodes whose tickets are made without reading the keys again; with more, all are forgotten."""


class SignalingHost(Host):
    """Answers for the nodes of `book`. `config.tickets` is needed: raises `LocalError` without a file of keys."""

    def __init__(
        self,
        backbone: Backbone,
        book: NodeBook,
        program: Callable[..., Any],
        config: HostConfig | None = None,
        trace: PacketTrace | None = None,
        key_log: KeyLog | None = None,
    ) -> None:
        super().__init__(program, config, trace, key_log)
        if self.config.tickets is None or self.config.tickets.key_file is None:
            raise LocalError("signaling answers by tickets: it needs the file of keys that the nodes have")
        self._ticket_config: TicketConfig = self.config.tickets
        self._backbone = backbone
        self._book = book
        self._issuers: dict[str, tuple[NodeRecord, TicketIssuer]] = {}
        self._answered = TicketIssuer(self._ticket_config, ())  # the keys are read now, if at all

    async def start(self) -> None:
        """Follow the nodes; there is no media to start."""
        await self._backbone.start()
        self._book.start()

    async def stop(self) -> None:
        """Follow them no more."""
        self._closing = True
        await self._book.stop()
        await self._backbone.stop()

    @property
    def calls(self) -> Mapping[str, Call]:
        """There are none: they are with the nodes."""
        return {}

    @property
    def addresses(self) -> tuple[Address, ...]:
        """There are none: the nodes have them."""
        return ()

    def awaits(self, call_id: str) -> bool:
        """Return True for an answer of this process whose call may still begin."""
        return any(issuer.awaits(call_id) for _, issuer in self._issuers.values())

    def withdraw(self, call_id: str) -> bool:
        """Nothing is withdrawn: the node honours the answer, or it expires in a minute."""
        return False

    async def tally(self) -> MediaTally:
        """Return what this process has counted."""
        total = Counters.of(self.counters.snapshot())
        total.merge(self._backbone.counters)
        nothing = MediaTally.nothing()
        return MediaTally(total.snapshot(), nothing.totals, nothing.lateness, nothing.lateness_total)

    async def accept(
        self,
        offer: str | SessionDescription,
        context: CallContext | None = None,
        ice: IceMode | None = None,
        offer_size: int | None = None,
    ) -> Any:
        """Raise `CallElsewhere`: only a node can take such a call; or `HostFull` if none can be reached."""
        raise CallElsewhere(self.find_node_with_http())

    async def answer(
        self,
        offer: str | SessionDescription,
        context: CallContext | None = None,
        on_call: Callable[[Call], None] | None = None,
        ice: IceMode | None = None,
    ) -> AnsweredByTicket | None:
        """Answer by a ticket of a node; None where none can hold what was agreed on. Raises as `Host.answer`."""
        if self._closing:
            raise LocalError("the server is shutting down")
        description = offer if isinstance(offer, SessionDescription) else SessionDescription.parse(offer)
        context = context or CallContext()
        node = (self._book.choose(but=context.avoid) if context.avoid else None) or self._book.choose()
        if node is None:
            raise HostFull("no media node takes calls")
        if ice is IceMode.FULL or (ice is not IceMode.LITE and awaits_checks(description)):
            return None
        issuer = self._issuer(node)
        made = issuer.answer(description, random.randrange(MAX_WORKERS), context)
        if made is None:
            return None
        self._tell_node(node, ExpectedCall(made.call_id, _crossing(context), made.reference, issuer.lifetime))
        instant = issuer.instant(made.negotiation, context)
        return AnsweredByTicket(made.answer, made.call_id, instant)

    def _tell_node(self, node: NodeRecord, expected: ExpectedCall) -> None:
        with suppress(LocalError):  # of more than may cross: the ticket says what matters
            self._backbone.post(node_subject(node.name, "expect"), EXPECTED.encode(expected))

    def find_node_with_http(self) -> str:
        """Return where the HTTP of a node is that takes calls; raises `HostFull`."""
        for _ in range(4):
            node = self._book.choose()
            if node is not None and node.url:
                return node.url
        raise HostFull("no media node with an HTTP address of its own takes calls")

    def _issuer(self, node: NodeRecord) -> TicketIssuer:
        known = self._issuers.get(node.name)
        if known is None or not _has_same_addresses(known[0], node):
            if len(self._issuers) >= MAX_ISSUERS:
                self._issuers.clear()
            # Nodes come and go: where one's name leaves a claim no room, its own HTTP takes the call.
            issuer = TicketIssuer(
                replace(self._ticket_config, claim_bytes=0),
                node.addresses,
                node.public_ips,
                self.config.setup,
                node.name,
                self.config.relays or node.relays,  # ours are nearer to those who ask us
            )
            issuer.set_tcp(node.tcp)
            self._issuers[node.name] = node, issuer
            return issuer
        with suppress(LocalError):  # the former keys stay
            known[1].reread()
        return known[1]


def _has_same_addresses(one: NodeRecord, other: NodeRecord) -> bool:
    ours = (one.addresses, one.tcp, one.public_ips, one.relays)
    return ours == (other.addresses, other.tcp, other.public_ips, other.relays)


def _crossing(context: CallContext) -> CallContext:
    """Return what of a context can leave the process."""
    session = dict(context.session)
    try:
        check_json(session)
    except LocalError:
        session = {}
    return CallContext(
        context.headers, session, context.remote, claim=context.claim, moved_from=context.moved_from
    )
