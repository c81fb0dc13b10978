"""The media side: the conversations behind one port, and what is asked of them as values.

`MediaCalls` runs on one event loop, with the endpoint, its driver and its sockets: in a thread
(`media_thread.py`) or in a process (`worker.py`). What the program's side asks of it is a `MediaRequest`,
carried out there in the order in which it was asked; what happens comes back as events. So both carry the same,
and calls do not know which it is.

Over 500 lines: each request is a few lines that call one method here, and is read beside it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar

from stack.aio import recording_writer
from stack.aio.coalescing import SetUps
from stack.aio.control import CallEnded
from stack.aio.driver import DatagramEndpoint, Driver
from stack.aio.load import LoadWatch
from stack.aio.outside import OutsideSockets, steered_entropy
from stack.aio.recording import RecordingCommand, StartRecording
from stack.aio.ticket_site import CallMade, TicketMedia, TicketRingPem
from stack.aio.udp import UdpSockets
from stack.audio import Lateness
from stack.core.counters import Counters
from stack.core.errors import LocalError
from stack.core.machine import Address, Instant, Transmit
from stack.core.trace import PacketTrace
from stack.core.values import Value
from stack.dtls import Certificate, KeyLog
from stack.ice import Candidate, IceAgent
from stack.ice.servers import LocatedServer
from stack.server import Endpoint, Gathered, GatheringEndpoint, HostedMachine, TicketAdmission, UnknownCheck
from stack.server.admission import GIVEN_UP, HALF_OPEN_TIMEOUT, AdmissionLimits
from stack.server.strays import ENOUGH
from stack.session import Authenticated, Connected, Ended, SessionParameters
from stack.session.media_plane import DROPPED_MEDIA_BEFORE_KEYS
from stack.session.ticket_terms import TicketSite
from stack.session.waterfall import DTLS_BEGUN
from stack.voice.commands import ConversationCommand, HangUp
from stack.voice.config import ConversationConfig, offered_codecs
from stack.voice.conversation import Command, Conversation
from stack.voice.events import ConversationEvent
from stack.voice.recording import RecordingEvent
from stack.voice.statistics import CallTotals

log = logging.getLogger("stack.calls")

STRAY_AFTER = 0.5
"""Seconds after its first check in which the handshake of a ticket's session has to begin, if media come."""

ResultT = TypeVar("ResultT")
ResultT_co = TypeVar("ResultT_co", covariant=True)

Events: TypeAlias = Sequence[tuple[str, ConversationEvent]]


class MediaTally(Value, frozen=True):
    """What was counted on the media side since it began, by calls that are over and by those that are not."""

    counters: Mapping[str, int]
    totals: CallTotals
    lateness: tuple[int, ...]
    """As `Lateness.counts`."""
    lateness_total: float
    """As `Lateness.total`, in seconds."""

    @classmethod
    def nothing(cls) -> MediaTally:
        """Return the sum of none."""
        return cls({}, CallTotals(), tuple(Lateness().counts), 0.0)

    def __add__(self, other: MediaTally) -> MediaTally:
        counters = Counters.of(self.counters)
        counters.merge(Counters.of(other.counters))
        late = self.frame_lateness()
        late.merge(other.frame_lateness())
        return MediaTally(counters.snapshot(), self.totals + other.totals, tuple(late.counts), late.total)

    def frame_lateness(self) -> Lateness:
        """Return how late frames left."""
        lateness = Lateness()
        lateness.counts, lateness.total = list(self.lateness), self.lateness_total
        return lateness


class CallEndpoint(DatagramEndpoint[ConversationEvent], Protocol):
    """An endpoint that hosts calls, and is told which of them was given a command."""

    counters: Counters
    uncounted: int
    """How many calls take no room from others."""

    def __len__(self) -> int:
        """Return how many there are."""

    def add(self, name: str, machine: HostedMachine[ConversationEvent], ufrag: str) -> None:
        """Host a call."""

    def add_ufrag(self, name: str, ufrag: str) -> None:
        """Let checks that name another fragment reach it."""

    def touch(self, name: str) -> None:
        """Say that a command was given to a hosted machine, so that the next `pump` looks at it."""


@dataclass(frozen=True, slots=True)
class MediaSetup:
    """What conversations are made with, and where what they say goes."""

    certificate: Certificate
    conversation: ConversationConfig
    on_events: Callable[[Events], None]
    """Called on the media loop."""
    on_recording: Callable[[RecordingEvent], None]
    """Called in the thread that writes recordings."""
    trace: PacketTrace | None = None
    max_calls: int = 1000
    key_log: KeyLog | None = None
    """Called on the media loop."""
    tickets: TicketMedia | None = None
    """What opens the tickets of calls that are made by their first packet; None: none is."""
    on_made: Callable[[CallMade], None] = lambda made: None
    """Called on the media loop, before the first event of such a call."""
    gathers: bool = False
    """Whether STUN and TURN servers will be named (`GatherFrom`) that candidates of ours come from."""
    on_gathered: Callable[[Gathered], None] = lambda gathered: None
    """Called on the media loop when what has been gathered is another."""


MakeDriver: TypeAlias = Callable[
    ["CallEndpoint", UdpSockets, Callable[[Events], None], "PacketTrace | None"], "Driver[ConversationEvent]"
]


class MediaCalls:
    """The conversations of one media loop; everything here belongs to that loop.

    `endpoint` is what finds the call of a datagram; `make_driver` what moves datagrams between it and the sockets.
    """

    def __init__(
        self, setup: MediaSetup, sockets: UdpSockets, endpoint: CallEndpoint, make_driver: MakeDriver = Driver
    ) -> None:
        self.endpoint = endpoint
        self.driver = make_driver(endpoint, sockets, self._pass_events, setup.trace)
        self.conversations: dict[str, Conversation] = {}
        """Those that were opened and not closed, by the call's id."""
        self.closed = 0
        """How many were."""
        self.counters = Counters()
        """What the thread or the process counts that all this runs in."""
        self._setup = setup
        self._ended = Counters()
        self._ended_totals = CallTotals()
        self._ended_lateness = Lateness()
        self._watch = LoadWatch(self._note_load)
        self._set_ups = SetUps()
        self.outside: OutsideSockets | None = None
        if isinstance(endpoint, GatheringEndpoint):
            self.outside = OutsideSockets(self.driver, endpoint, setup.on_gathered, self._offer_candidates)
            self.driver.outside = self.outside
        self._admission: TicketAdmission | None = None
        self.expect_ticket: Callable[[str], None] = lambda ufrag: None
        """Told of a fragment that was answered with; see `Endpoint.expect`."""
        self._unannounced: dict[str, CallMade] = {}  # those made by a ticket, until there is something to say
        if setup.tickets is not None:
            tickets = setup.tickets
            site = TicketSite(sockets.addresses, tickets.public_ips, offered_codecs(), relays=tickets.relays)
            limits = AdmissionLimits()
            if tickets.relays:  # all clients have a relay's address: it bounds what comes from each of them
                limits = replace(limits, per_address=limits.half_open)
            self._admission = TicketAdmission(tickets.ring.read(), site, limits)
            for name in tickets.over:
                self._admission.note_given_up(name)

    def stop(self) -> None:
        """Stop reading, and close the sockets."""
        self._watch.stop()
        self.driver.close()

    def _note_load(self, load: float) -> None:
        """Tell every conversation how busy this loop is."""
        for conversation in self.conversations.values():
            conversation.note_load(load)

    def _offer_candidates(self, candidates: Sequence[Candidate]) -> None:
        """Have calls with a full agent check from relayed addresses that were found after they began."""
        now = self.driver.now()
        for call_id, conversation in self.conversations.items():
            if isinstance(conversation.session.ice, IceAgent):
                for candidate in candidates:
                    with suppress(LocalError):  # it has as many as it may have
                        conversation.add_local_candidate(candidate, now)
                self.endpoint.touch(call_id)
        asyncio.get_running_loop().call_soon(self.driver.pump)  # this is said in the middle of one

    def open(
        self,
        call_id: str,
        parameters: SessionParameters,
        record: StartRecording | None = None,
        offered: Instant | None = None,
    ) -> None:
        """Begin a call whose offer arrived at the instant `offered`; `LocalError` if there is no room for it."""
        conversation = self._converse(parameters, self._setup.certificate, self._setup.conversation, offered)
        self._set_ups.begin(call_id)
        self.endpoint.add(call_id, conversation, parameters.local.ice_ufrag)
        self.conversations[call_id] = conversation
        if record is not None:
            self.carry_out(call_id, record)
        self.driver.pump()

    def _converse(
        self,
        parameters: SessionParameters,
        certificate: Certificate,
        config: ConversationConfig,
        offered: Instant | None = None,
    ) -> Conversation:
        now = self.driver.now()
        return Conversation(
            parameters,
            certificate,
            config,
            os.urandom,
            now,
            wall_clock=time.time() - now,
            key_log=self._setup.key_log,
            offered=offered,
        )

    # -- calls that are made by their first packet -----------------------------------------------------------

    def resolve(self, check: UnknownCheck, now: Instant) -> tuple[str, Conversation] | Transmit | None:
        """Make the call of a check whose ticket opens; the endpoint asks. See `stack.server.admission`."""
        if self._admission is None:
            return None
        admitted = self._admission.admit(check.data, check.username, check.path, now, time.time(), check.is_stray)
        displaced = self._admission.drain_displaced()
        if displaced:
            self._end_later(displaced)
        self.endpoint.uncounted = self._admission.half_open
        if admitted is None or isinstance(admitted, Transmit):
            return admitted
        config = self._setup.conversation
        if not admitted.may_speak_early:
            config = replace(config, send_early=False)
        self._set_ups.begin(admitted.name)
        opened = admitted.opened
        conversation = self._converse(admitted.parameters, opened.key.certificate, config)
        self.conversations[admitted.name] = conversation
        self._unannounced[admitted.name] = CallMade(
            admitted.name, opened.ticket.serialize(), check.path.remote.host
        )
        loop = asyncio.get_running_loop()
        loop.call_later(STRAY_AFTER, self._give_up_stray, admitted.name)
        loop.call_later(HALF_OPEN_TIMEOUT, self._give_up, admitted.name)
        return admitted.name, conversation

    def make_by_tickets(self, endpoint: Endpoint[ConversationEvent]) -> None:
        """Have the endpoint ask for calls, if there are keys of tickets."""
        if self._admission is not None:
            endpoint.resolve, self.expect_ticket = self.resolve, endpoint.expect

    def set_ticket_keys(self, ring: TicketRingPem) -> None:
        """Take other keys, and another list of what is revoked; calls that are up stay."""
        if self._admission is not None:
            self._admission.ring = ring.read()

    def _pass_events(self, events: Events) -> None:
        """Hand events on; those of a call that a ticket made begin with its connection."""
        if self._set_ups:
            for call_id, event in events:
                if isinstance(event, Authenticated | Ended) or (
                    isinstance(event, Connected) and event.authenticated
                ):
                    self._set_ups.end(call_id)
        if self._admission is not None:
            events = self._screen(events, self._admission)
        if events:
            self._setup.on_events(events)

    def _screen(self, events: Events, admission: TicketAdmission) -> Events:
        passed: list[tuple[str, ConversationEvent]] = []
        for call_id, event in events:
            if isinstance(event, Connected) and call_id in self._unannounced:
                if passed:  # what happens to other calls keeps its place
                    self._setup.on_events(passed)
                    passed = []
                self._setup.on_made(self._unannounced.pop(call_id))
            if isinstance(event, Authenticated) or (isinstance(event, Connected) and event.authenticated):
                self._end_later(admission.note_proven(call_id))
            if isinstance(event, Ended):
                admission.note_ended(call_id)
            if call_id not in self._unannounced:
                passed.append((call_id, event))
            elif isinstance(event, Ended):  # nothing came of it: nothing is said
                del self._unannounced[call_id]
                self.close(call_id)
        self.endpoint.uncounted = admission.half_open
        return passed

    def _end_later(self, call_ids: Sequence[str]) -> None:
        """End calls once what is going on is done: this is said in the middle of a pump."""
        for call_id in call_ids:
            asyncio.get_running_loop().call_soon(self._end, call_id)

    def _give_up_stray(self, call_id: str) -> None:
        """Give up a session whose client sends media, and no handshake: that was with another process."""
        conversation = self.conversations.get(call_id)
        if conversation is None or DTLS_BEGUN in conversation.session.steps:
            return
        if conversation.all_counters()[DROPPED_MEDIA_BEFORE_KEYS] >= ENOUGH:
            self._give_up(call_id)

    def _give_up(self, call_id: str) -> None:
        if self._admission is not None and self._admission.is_half_open(call_id):
            self._admission.counters.add(GIVEN_UP)
            self._admission.note_given_up(call_id)
            self._end(call_id)

    def _end(self, call_id: str) -> None:
        with suppress(CallEnded):
            self.carry_out(call_id, HangUp())

    # -- all calls -------------------------------------------------------------------------------------------

    def carry_out(self, call_id: str, command: Command[ResultT]) -> ResultT:
        """Give a conversation a command and pump; raises what it raises, and `CallEnded` once it is closed."""
        conversation = self.conversations.get(call_id)
        if conversation is None:
            raise CallEnded("the call is over")
        try:
            result = conversation.handle_command(command, self.driver.now())
        finally:
            self.endpoint.touch(call_id)
            self.driver.pump()
        if isinstance(command, StartRecording):
            writer = recording_writer.find_writer(command.name)
            if writer is not None:
                writer.watch(self._setup.on_recording)
        return result

    def add_ufrag(self, call_id: str, ufrag: str) -> None:
        """Let checks reach a call by another fragment; raises `LocalError` if the call is gone."""
        self.endpoint.add_ufrag(call_id, ufrag)

    def close(self, call_id: str) -> None:
        """Forget a call that is over; what it counted stays in the tally."""
        conversation = self.conversations.pop(call_id, None)
        if conversation is None:
            return
        self._set_ups.end(call_id)
        self.closed += 1
        self._ended_totals += conversation.totals(self.driver.now())
        self._ended.merge(conversation.all_counters())
        if conversation.lateness is not None:
            self._ended_lateness.merge(conversation.lateness)

    def tally(self) -> MediaTally:
        """Return what was counted by calls, the endpoint, the driver and the sockets."""
        counters, totals, lateness = Counters(), self._ended_totals, Lateness()
        counters.merge(self._ended)
        lateness.merge(self._ended_lateness)
        sockets = self.driver.sockets
        tcp = self.driver.tcp.all_counters()
        for each in (self.counters, self.endpoint.counters, self.driver.counters, sockets.counters, tcp):
            counters.merge(each)
        if self._admission is not None:
            counters.merge(self._admission.counters)
        if self.outside is not None:
            counters.merge(self.outside.all_counters())
        for udp in sockets:
            counters.merge(udp.counters)
        now = self.driver.now()
        for conversation in self.conversations.values():
            totals += conversation.totals(now)
            counters.merge(conversation.all_counters())
            if conversation.lateness is not None:
                lateness.merge(conversation.lateness)
        return MediaTally(counters.snapshot(), totals, tuple(lateness.counts), lateness.total)


def make_endpoint(
    setup: MediaSetup, addresses: Sequence[Address], worker: int = 0, *, keeps_strays: bool = False
) -> Endpoint[ConversationEvent]:
    """Return the endpoint of a server's media side, which gathers where that is wanted."""
    if not setup.gathers:
        return Endpoint(max_sessions=setup.max_calls, reports_paths=True, keeps_strays=keeps_strays)
    entropy = steered_entropy(worker)
    return GatheringEndpoint(addresses, entropy, setup.max_calls, reports_paths=True, keeps_strays=keeps_strays)


def many_calls(setup: MediaSetup, sockets: UdpSockets) -> MediaCalls:
    """Return a server's: many calls behind one port. Call it on the media loop."""
    endpoint = make_endpoint(setup, sockets.addresses)
    media = MediaCalls(setup, sockets, endpoint)
    media.make_by_tickets(endpoint)
    return media


# -- what is asked -----------------------------------------------------------------------------------------


class MediaRequest(Protocol[ResultT_co]):
    """Something that the media side is to do."""

    def apply(self, media: MediaCalls) -> ResultT_co:
        """Do it. May raise a `StackError`."""
        ...


class OpenCall(Value, frozen=True):
    """Begin a call, and its recording if there is to be one."""

    call: str
    parameters: SessionParameters
    record: StartRecording | None = None
    offered: float | None = None
    """The clock is the same in all processes of a machine."""

    def apply(self, media: MediaCalls) -> None:
        """See `MediaCalls.open`."""
        media.open(self.call, self.parameters, self.record, self.offered)


class CarryOut(Value, frozen=True):
    """Give a call a command; what comes of it is what the command's `apply` returns or raises."""

    call: str
    command: ConversationCommand | RecordingCommand

    def apply(self, media: MediaCalls) -> Any:
        """See `MediaCalls.carry_out`."""
        return media.carry_out(self.call, self.command)


class AddUfrag(Value, frozen=True):
    """Let checks reach a call by the fragment that it has since an ICE restart."""

    call: str
    ufrag: str

    def apply(self, media: MediaCalls) -> None:
        """See `MediaCalls.add_ufrag`."""
        media.add_ufrag(self.call, self.ufrag)


class CloseCall(Value, frozen=True):
    """Forget a call that is over."""

    call: str

    def apply(self, media: MediaCalls) -> None:
        """See `MediaCalls.close`."""
        media.close(self.call)


class ExpectTicket(Value, frozen=True):
    """A ticket was answered with: its first checks are not lost in a flood of strangers'."""

    ufrag: str

    def apply(self, media: MediaCalls) -> None:
        """See `MediaCalls.expect_ticket`."""
        media.expect_ticket(self.ufrag)


class SetTicketKeys(Value, frozen=True):
    """Open tickets with these keys from now on."""

    ring: TicketRingPem

    def apply(self, media: MediaCalls) -> None:
        """See `MediaCalls.set_ticket_keys`."""
        media.set_ticket_keys(self.ring)


class GatherFrom(Value, frozen=True):
    """Gather from a server, whose address is known now; see `OutsideSockets.add_server`."""

    unshown: ClassVar[frozenset[str]] = frozenset({"located"})
    located: LocatedServer

    def apply(self, media: MediaCalls) -> None:
        """Ask it, for all calls."""
        if media.outside is not None:
            media.outside.add_server(self.located)


class NoMoreServers(Value, frozen=True):
    """Every server was named that can be by now."""

    def apply(self, media: MediaCalls) -> None:
        """See `OutsideSockets.finish`."""
        if media.outside is not None:
            media.outside.finish()


class GetTally(Value, frozen=True):
    """Ask for what was counted."""

    def apply(self, media: MediaCalls) -> MediaTally:
        """See `MediaCalls.tally`."""
        return media.tally()


class CountCalls(Value, frozen=True):
    """Ask how many calls the endpoint still has: those that are over leave when their last datagram has."""

    def apply(self, media: MediaCalls) -> int:
        """Return it."""
        return len(media.endpoint)


class MediaLink(Protocol):
    """The way from the program's side to one media side. Everything belongs to the program's loop."""

    number: int
    """The worker digit in the fragments of its calls."""
    load: int
    """How many calls go this way."""
    gathered: Gathered
    """What its media side has gathered for its calls."""

    @property
    def is_late(self) -> bool:
        """True while the other side does not answer what it is asked, and may have stopped for good."""
        ...

    def submit(self, request: MediaRequest[object]) -> None:
        """Have something done soon; requests keep their order."""
        ...

    async def execute(self, request: MediaRequest[ResultT]) -> ResultT:
        """Have something done and return (or raise) what comes of it; `CallEnded` if the media side is gone."""
        ...

    def adopt(self, sock: socket.socket, begun: bytes) -> None:
        """Hand an ICE-TCP connection over, and what was read of it; it is closed if that cannot be."""
        ...
