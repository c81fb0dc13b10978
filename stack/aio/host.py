"""The host: it accepts offers, keeps the calls, and runs the program for each.

Two sides: the *media side* runs the endpoint, its sockets and every conversation, in worker processes
(`workers.py`) or in a thread (`media_thread.py`); the *program's loop*, on which the host was started, runs the
programs and the HTTP side. They exchange commands and batches of events.

Over 500 lines: `HostConfig` is read beside what it decides, and an offer, a ticket and a TCP connection meet the
same calls, limits and addresses here. What runs a program (`program_runner.py`), makes tickets (`tickets.py`) or
checks settings (`host_checks.py`) has left already.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from ipaddress import ip_address
from typing import Any, Literal, TypeVar

from msgspec import structs

from stack.aio.call import Call, control_of
from stack.aio.context import CallContext
from stack.aio.control import CallEnded
from stack.aio.host_checks import (
    check_families,
    check_port,
    check_public_ips,
    check_resume_timeout,
    check_texts,
)
from stack.aio.hosted import CallTable, HostedCall
from stack.aio.media import AddUfrag, CarryOut, CloseCall, ExpectTicket, MediaLink, MediaTally
from stack.aio.media_thread import MediaConfig, ThreadMedia
from stack.aio.program_runner import ProgramRunner
from stack.aio.programs import as_program
from stack.aio.recording import StartRecording, check_folder, file_name
from stack.aio.resolving import resolve
from stack.aio.steering import Steering
from stack.aio.tcp_listener import TcpListener, listen_all
from stack.aio.threads import in_thread
from stack.aio.ticket_file import read_reference
from stack.aio.ticket_site import CallMade
from stack.aio.tickets import REREAD_EVERY, InstantTicket, TicketConfig, TicketIssuer
from stack.aio.udp import bind_all, local_addresses
from stack.aio.workers import WorkerPool, check_workers
from stack.audio import Lateness
from stack.audio.wav import FilePath
from stack.core.counters import Counters, declare
from stack.core.errors import LocalError, StackError
from stack.core.machine import Address
from stack.core.trace import PacketTrace
from stack.dtls import Certificate, KeyLog
from stack.ice import IceCredentials, Ufrag
from stack.ice.servers import IceServer, LocatedServer
from stack.sdp import (
    LocalParameters,
    Negotiation,
    SessionDescription,
    Setup,
    awaits_checks,
    choose_setup,
    negotiate,
    renegotiate,
    restarts_ice,
)
from stack.session import LocalWishes, SessionParameters, make_local_parameters
from stack.session.parameters import TYPICAL_OFFER
from stack.voice.commands import AddRemoteCandidates, GetParameters, HangUp, Renegotiate, RestartIce, Tell
from stack.voice.config import offered_codecs, prepare
from stack.voice.conversation import Command, ConversationConfig
from stack.voice.turns import TurnMode, TurnSettings

DROPPED_TICKET_CALL = declare(
    "host", "dropped_ticket_call", "Calls of tickets that were ended at once: there was no room for them"
)

TELL_EVERY = 0.1
"""Seconds between two lists of withdrawn answers for the media sides."""

log = logging.getLogger("stack.calls")

RESOLVE_AGAIN_AFTER = 60.0
"""Seconds until the name of an ICE server is resolved again that was not."""

ResultT = TypeVar("ResultT")


class IceMode(Enum):
    """Which ICE agent a call gets."""

    LITE = "lite"
    """It answers checks, and sends none to find a path (RFC 8445 §2.5): right for a server that can be reached."""
    FULL = "full"
    """It sends checks, too: for clients that only answer, and servers behind a NAT."""
    AUTO = "auto"
    """Full where the offer shows that checks are waited for, or the client asks for them, or `ice_servers` have
    shown that a NAT is in front of us or may still show it; else lite."""


class HostFull(StackError):
    """There are as many calls as the host may hold."""


class CallElsewhere(StackError):
    """Another machine has to take the call: `url` is where its HTTP is."""

    def __init__(self, url: str) -> None:
        super().__init__("call there")
        self.url = url


@dataclass(frozen=True, slots=True)
class HostConfig:
    """How a host listens and what it agrees to."""

    host: str | None = None
    """The address, name or wildcard that media listens on; None: this machine's addresses and loopback.

    See `stack.aio.udp.local_addresses`, and `docs/security.md` for what a stranger can do there.
    """
    udp_port: int = 3478
    interfaces: tuple[str, ...] = ()
    """Names of network interfaces, as eth0: media listens on their addresses alone. Empty: on all."""
    public_ips: tuple[str, ...] = ()
    """Addresses to offer instead of the bound ones of the same family, where 1:1 NATs stand in front."""
    relays: tuple[Address, ...] = ()
    """Where clients reach the relays in front of this host (docs/scale.md): answers name their addresses, and none
    of ours. Who sends is then seen at an address of the relay."""
    tcp_port: int | Literal["udp", "http"] | None = "udp"
    """Where clients whose network blocks UDP connect by TCP: the number of the UDP port ("udp"), the port of HTTP
    ("http": who serves HTTP shares it), another (0: any), or None: nowhere."""
    ice: IceMode = IceMode.AUTO
    ice_servers: tuple[IceServer, ...] = ()
    """STUN and TURN servers from which a server behind a NAT has server-reflexive and relayed candidates."""
    node: str = ""
    """Which of several machines this is: letters, digits and slashes, up to 64. It stands in the ICE username
    fragments, where a router in front can read it (`stack.core.ufrag`)."""
    region: str = ""
    """Where this machine is, in the operator's words."""
    max_calls: int = 1000
    setup: Setup | None = None
    """Our part of DTLS where the client leaves it to us; PASSIVE: the client begins the handshake. None: what was
    measured to be faster for such a client (`stack.sdp.setup_choice`)."""
    conversation: ConversationConfig = field(default_factory=ConversationConfig)
    resume_timeout: float = 30.0
    """Seconds that a call is kept whose client has fallen silent for 30 s, after `ConnectionPaused`, and may come
    back from wherever it is then; 0: the call ends at once."""
    record_dir: FilePath | None = None
    """A folder in which every call is recorded; see `stack.aio.recording`."""
    workers: int = 0
    """Processes that carry the media, so that no program can delay it: 1 is enough for one core's worth of calls.
    0: a thread of this process does."""
    tickets: TicketConfig | None = None
    """Whether sessions may be made by their first packet; None: each is made when its offer is answered."""
    steering: Steering | None = None
    """How several workers share the port; None: by the kernel, and by a process in front where it cannot."""

    def __post_init__(self) -> None:
        check_texts("interfaces", self.interfaces)
        check_texts("public_ips", self.public_ips)
        if not isinstance(self.conversation, ConversationConfig):
            raise LocalError(f"conversation is a ConversationConfig, not {type(self.conversation).__name__}")
        check_port("udp_port", self.udp_port)
        if self.tcp_port not in ("udp", "http", None):
            check_port("tcp_port", self.tcp_port)
        check_resume_timeout(self.resume_timeout)
        check_public_ips(self.public_ips)
        if self.host is not None and self.interfaces:
            raise LocalError("media listens on `host` or on `interfaces`: both were given")
        if self.ice is IceMode.LITE and any(server.turn for server in self.ice_servers):
            raise LocalError(
                "a lite agent has no relayed candidates (RFC 8445 §5.2): a TURN server is for ice=full"
            )
        if self.relays and self.public_ips:
            raise LocalError("answers name `relays` or `public_ips`: both were given")


@dataclass(frozen=True, slots=True)
class Accepted:
    """What came of an offer."""

    answer: str
    call: Call
    instant: InstantTicket | None = None
    """For the client's next call, where that is allowed."""


@dataclass(frozen=True, slots=True)
class AnsweredByTicket:
    """An answer whose call is made by its first packet, here or in another process that has the key."""

    answer: str
    call_id: str
    """The id that the call will have."""
    instant: InstantTicket | None = None
    """For the client's next call, where that is allowed."""


@dataclass(frozen=True, slots=True)
class Renegotiated:
    """What came of a further offer; `ice_ufrag` is ours from now on."""

    answer: str
    ice_ufrag: str


class Host:
    """Accepts offers on one UDP port and runs `program(call)` for every call.

    Use it as `async with Host(program, config) as host: await host.accept(offer)`. A program may carry four
    attributes: `prepare()`, which `start` calls first, in a thread, to load models before a call waits for them;
    `turns`, the `TurnSettings` that suit it, which apply where the config says nothing else; `attach(call)`, which
    is called for each call before its first event; and `counters`, which become part of the tally. Where neither
    the config nor `turns` says anything, an endpointer that is chosen makes turns `semantic`.
    """

    def __init__(
        self,
        program: Callable[..., Any],
        config: HostConfig | None = None,
        trace: PacketTrace | None = None,
        key_log: KeyLog | None = None,
    ) -> None:
        self.config = _suited(config or HostConfig(), getattr(program, "turns", None))
        self.counters = Counters()
        self._runner = ProgramRunner(as_program(program), self.counters, getattr(program, "attach", None))
        self._prepare: Callable[[], object] | None = getattr(program, "prepare", None)
        self._program_counters: Counters | None = getattr(program, "counters", None)
        self._trace = trace
        self._key_log = key_log
        self._table = CallTable()
        self._certificate = Certificate.generate(os.urandom, datetime.now(UTC))
        self._tcp: TcpListener | None = None
        self._tcp_addresses: tuple[Address, ...] = ()
        self._closing = False
        self._tickets: TicketIssuer | None = None
        self._rereading: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._telling: asyncio.TimerHandle | None = None  # no answer that is withdrawn meanwhile is told at once
        self._tells_again = False
        self.on_ticket_call: Callable[[Call], None] | None = None
        """Told of a call that a ticket has made and no answer of this process has announced."""

    async def __aenter__(self) -> Host:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Load what is chosen by name, bind the port and begin.

        Raises `LocalError` for a part that is not there, a port that cannot be bound, a `record_dir` that cannot
        be written, or workers that cannot be had.
        """
        config = self.config
        check_workers(config.workers)
        self._endpointer = await asyncio.to_thread(prepare, config.conversation)
        if config.record_dir is not None:
            await asyncio.to_thread(check_folder, config.record_dir)
        if self._prepare is not None:
            await in_thread(self._prepare)
        conversation = replace(config.conversation, resume_timeout=config.resume_timeout)
        Ufrag(0, "0" * 12, config.node)  # what a node may be called
        gathers = bool(config.ice_servers) and config.ice is not IceMode.LITE
        settled = MediaConfig(
            self._certificate, conversation, config.max_calls, self._trace, self._key_log, gathers=gathers
        )
        hosts = local_addresses(config.host, config.interfaces)
        check_families(config.public_ips, [Address(host, config.udp_port) for host in hosts])
        self._media: ThreadMedia | WorkerPool
        if config.workers == 0:
            self._media = ThreadMedia(settled, self._table, bind_all(hosts, config.udp_port))
        else:
            self._media = WorkerPool(settled, self._table, hosts, config.udp_port, config.workers, config.steering)
        try:
            if config.tcp_port is not None and config.tcp_port != "http":
                self.listen_tcp(self._bind_tcp(config.tcp_port))
            if config.tickets is not None:
                self._use_tickets(config.tickets)
            await self._media.start()
        except BaseException:
            await self._media.stop()
            self.stop_listening_tcp()
            raise
        if gathers:
            self._asking = asyncio.create_task(self._ask_servers(), name="ICE servers")

    async def _ask_servers(self) -> None:
        """Have the media side ask every server; one whose name is not resolved is tried again later."""
        missing = list(self.config.ice_servers)
        while missing:
            found = await asyncio.gather(*(resolve(server.host, server.port) for server in missing))
            for server, addresses in zip(missing, found, strict=True):
                for address in addresses:
                    self._media.ask_server(LocatedServer(server, address))
            self._media.finish_asking()
            missing = [server for server, addresses in zip(missing, found, strict=True) if not addresses]
            if missing:
                await asyncio.sleep(RESOLVE_AGAIN_AFTER)

    def _use_tickets(self, wanted: TicketConfig) -> None:
        config = self.config
        tickets = TicketIssuer(wanted, self.addresses, config.public_ips, config.setup, config.node, config.relays)
        tickets.set_tcp(self._tcp_addresses)
        self._tickets = tickets
        self._table.on_made = self._take_made
        self._media.set_ticket_keys(tickets.media)
        self._rereading = asyncio.create_task(self._reread_keys(tickets), name="ticket keys")

    def _bind_tcp(self, port: int | Literal["udp"]) -> list[socket.socket]:
        hosts = [address.host for address in self.addresses]
        if port == "udp":
            number = self.addresses[0].port
            if self.config.udp_port:
                return listen_all(hosts, number)
            with suppress(LocalError):  # a number that the kernel has chosen for UDP may be taken for TCP
                return listen_all(hosts, number)
            port = 0
        return listen_all(hosts, port)

    def listen_tcp(
        self, listeners: Sequence[socket.socket], on_other: Callable[[socket.socket], None] | None = None
    ) -> None:
        """Accept ICE-TCP connections on listening sockets, which are closed with the host.

        `on_other` is given connections that are not of ICE, as those of HTTP; without it they are closed. Call it
        before the first call is accepted.
        """
        self._tcp = TcpListener(listeners, self._on_ice_connection, on_other)
        self._tcp_addresses = self._reachable(self._tcp.addresses)
        if self._tickets is not None:
            self._tickets.set_tcp(self._tcp_addresses)

    def _reachable(self, listening: Sequence[Address]) -> tuple[Address, ...]:
        """Return the addresses that connections reach listeners at: a wildcard stands for those of the media."""
        found: dict[Address, None] = {}
        for address in listening:
            if not ip_address(address.host).is_unspecified:
                found[address] = None
                continue
            for own in self.addresses:
                if own.is_ipv6 == address.is_ipv6:
                    found[Address(own.host, address.port)] = None
        return tuple(found)

    def _on_ice_connection(self, sock: socket.socket, begun: bytes, worker: int) -> bool:
        link = self._media.link(worker)
        if link is None:
            return False
        link.adopt(sock, begun)
        return True

    def stop_listening_tcp(self) -> None:
        """Accept no TCP connections any more; those that are there stay. Harmless if there is no listener."""
        if self._tcp is not None:
            self.counters.merge(self._tcp.counters)
            self._tcp.close()
            self._tcp = None

    @property
    def calls(self) -> Mapping[str, Call]:
        """The calls that are not over, by id."""
        return {hosted.id: hosted.call for hosted in self._table.calls.values()}

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The UDP addresses on which media arrives."""
        return self._media.addresses

    @property
    def tcp_addresses(self) -> tuple[Address, ...]:
        """The TCP addresses that clients can connect to where UDP is blocked; none if that is turned off."""
        return self._tcp_addresses

    @property
    def candidates(self) -> tuple[str, ...]:
        """Our candidates as SDP attributes, the same for every call."""
        return self._local_parameters(0, Setup.PASSIVE).candidates

    def candidates_of(self, call: Call, is_lite: bool) -> tuple[str, ...]:
        """Return what a call is to be told of our candidates by now: a full agent's are those gathered, too."""
        hosted = self._table.calls.get(call.id)
        if hosted is None or is_lite:
            return self.candidates
        gathered = hosted.link.gathered.candidates
        return self._local_parameters(0, Setup.PASSIVE, False, gathered).candidates

    def _local_parameters(
        self, worker: int, setup: Setup, ice_lite: bool = True, gathered: tuple[str, ...] = ()
    ) -> LocalParameters:
        wishes = LocalWishes(
            gathered=gathered,
            ice_lite=ice_lite,
            tcp=self._tcp_addresses,
            setup=setup,
            worker=worker,
            node=self.config.node,
            codecs=offered_codecs(),
        )
        config = self.config
        local = make_local_parameters(
            os.urandom, self._certificate, self.addresses, wishes, config.public_ips, config.relays
        )
        return replace(local, ice_pwd=self._password(local.ice_ufrag, local.ice_pwd))

    def _password(self, ufrag: str, random: str) -> str:
        """Return the password for a fragment: where there are keys it follows from it.

        So a process that takes the place of another can say to a client, signed, that its session is lost.
        """
        return self._tickets.ring.newest.password(ufrag) if self._tickets is not None else random

    def _is_lite_for(self, offer: SessionDescription, ice: IceMode | None, link: MediaLink) -> bool:
        mode = self.config.ice
        if mode is IceMode.AUTO:
            mode = ice or mode
        is_behind_nat = bool(link.gathered.candidates) or not link.gathered.is_complete
        return mode is IceMode.LITE or (mode is IceMode.AUTO and not (is_behind_nat or awaits_checks(offer)))

    async def accept(
        self,
        offer: str | SessionDescription,
        context: CallContext | None = None,
        ice: IceMode | None = None,
        offer_size: int | None = None,
    ) -> Accepted:
        """Answer an SDP offer, as text or read already, and start the call.

        `ice` is what the client asks for; it counts where `HostConfig.ice` leaves it open. `offer_size` are the
        bytes of an offer that was read already: see `stack.session.allowance`.
        Raises `ParseError` if it is no SDP, `NegotiationError` if there is nothing to agree on, `HostFull`, or
        `LocalError` once the host is stopping, or while no media worker is up.
        """
        offered = time.monotonic()
        self._check_room()
        description = _read(offer)
        link = await self._media.choose()
        setup = self.config.setup or choose_setup(description)
        is_lite = self._is_lite_for(description, ice, link)
        local = self._local_parameters(link.number, setup, is_lite, () if is_lite else link.gathered.candidates)
        negotiation = negotiate(description, local)
        size = len(offer) if isinstance(offer, str) else offer_size or TYPICAL_OFFER
        parameters = SessionParameters(local, negotiation, offer_size=size)
        call = await self._admit(link, parameters, context, offered)
        return Accepted(negotiation.answer.serialize(), call, self._instant(call.id, negotiation, call.context))

    async def answer(
        self,
        offer: str | SessionDescription,
        context: CallContext | None = None,
        on_call: Callable[[Call], None] | None = None,
        ice: IceMode | None = None,
    ) -> AnsweredByTicket | None:
        """Answer an offer by a ticket, so that its first packet makes the call; None where `accept` has to.

        That is so where no ticket is wanted (`HostConfig.tickets`), none holds what was agreed on, or the client
        needs a full agent. `on_call` is told of the call when it is connected, if it comes to this process.
        Raises as `accept` does.
        """
        tickets = self._tickets
        if tickets is None or not tickets.config.stateless:
            return None
        self._check_room()
        description = _read(offer)
        link = await self._media.choose_any()
        if not self._is_lite_for(description, ice, link):
            return None
        context = context or CallContext()
        made = tickets.answer(description, link.number, context, on_call)
        if made is None:
            return None
        link.submit(ExpectTicket(made.ufrag))
        return AnsweredByTicket(
            made.answer, made.call_id, self._instant(made.call_id, made.negotiation, context, made.reference)
        )

    def is_late(self, call_id: str) -> bool:
        """Return True for a call whose media worker does not answer: it goes on, or is ended in some seconds."""
        hosted = self._table.calls.get(call_id)
        return hosted is not None and hosted.link.is_late

    def awaits(self, call_id: str) -> bool:
        """Return True if a ticket was answered with whose call has not come yet, and still may."""
        return self._tickets is not None and self._tickets.awaits(call_id)

    def withdraw(self, call_id: str) -> bool:
        """Honour an answer no more whose call has not come yet; False if there is no such answer."""
        if self._tickets is None or not self._tickets.withdraw(call_id):
            return False
        if self._telling is None:  # clients withdraw as often as they like: the media sides are told now and then
            self._tell_withdrawn(self._tickets)
            self._telling = asyncio.get_running_loop().call_later(TELL_EVERY, self._tell_again, self._tickets)
        else:
            self._tells_again = True
        return True

    def _tell_withdrawn(self, tickets: TicketIssuer) -> None:
        tickets.take_withdrawn()
        self._media.set_ticket_keys(tickets.media)

    def _tell_again(self, tickets: TicketIssuer) -> None:
        self._telling = None
        if self._tells_again:
            self._tells_again = False
            self._tell_withdrawn(tickets)

    def expect(self, call_id: str, context: CallContext, reference: bytes, lifetime: float) -> None:
        """Another process has answered by a ticket whose call will come here: what its request said.

        It is forgotten after `lifetime` seconds. Nothing happens on a host without tickets.
        """
        if self._tickets is not None:
            self._tickets.expect(call_id, context, reference, lifetime)

    def revoke_ticket(self, reference: str) -> None:
        """Honour the ticket with this reference (`CallContext.ticket`) and those that were made from it no more.

        A call that one of them has made goes on.

        In this process and its workers, until it ends: `voice-stack ticket-key FILE --revoke REFERENCE` does it
        for all servers that share the file. Raises `LocalError` for a text that is none, or beyond `MAX_REVOKED`.
        """
        if self._tickets is not None:
            self._tickets.revoke(read_reference(reference))
            self._media.set_ticket_keys(self._tickets.media)

    def _instant(
        self, call_id: str, agreed: Negotiation, context: CallContext, former: bytes | None = None
    ) -> InstantTicket | None:
        instant = self._tickets.instant(agreed, context, former) if self._tickets is not None else None
        if instant is not None:  # what an operator revokes it by
            log.info("call %s: its client is given ticket %s for its next call", call_id, instant.reference)
        return instant

    async def _reread_keys(self, tickets: TicketIssuer) -> None:
        """Follow the file of the keys."""
        while True:
            await asyncio.sleep(REREAD_EVERY)
            try:
                if tickets.reread():
                    self._media.set_ticket_keys(tickets.media)
                    log.info("the ticket keys are others: epoch %d seals", tickets.ring.newest.epoch)
            except LocalError as error:
                log.error("%s: the former keys stay", error)

    def _take_made(self, link: MediaLink, made: CallMade) -> None:
        """A ticket has made a call on a media side: run the program for it."""
        if self._tickets is None:
            return
        context, on_call = self._tickets.take(made)
        is_unwanted = self._tickets.is_withdrawn(bytes.fromhex(context.ticket))
        is_known = made.call in self._table.calls  # its former run is just ending
        if self._closing or is_known or is_unwanted or len(self._table.calls) >= self.config.max_calls:
            link.submit(CarryOut(made.call, HangUp()))
            link.submit(CloseCall(made.call))
            self.counters.add(DROPPED_TICKET_CALL)
            return
        log.info("call %s comes by ticket %s", made.call, context.ticket)
        hosted = HostedCall(self._table, link, self._placed(context), made.call)
        hosted.adopt(self._recording_of(hosted.call))
        self._begin(hosted)
        if self._tickets.config.instant_connect:  # what an answer over HTTP says beside the SDP
            renewed = self._tickets.renewed(made)
            instant = renewed.describe() if renewed is not None else None
            hosted.submit(Tell({"type": "instant", "pc_id": made.call, "instant": instant}))
        note = on_call or self.on_ticket_call
        if note is not None:
            note(hosted.call)

    def _placed(self, context: CallContext) -> CallContext:
        """Return what is known of a call, with where it is."""
        return replace(context, node=self.config.node, region=self.config.region)

    async def _admit(
        self, link: MediaLink, parameters: SessionParameters, context: CallContext | None, offered: float
    ) -> Call:
        """Start the call that was agreed on; `offered` is when its offer arrived (`time.monotonic`)."""
        self._check_room()
        hosted = HostedCall(self._table, link, self._placed(context or CallContext()))
        try:
            await hosted.open(parameters, self._recording_of(hosted.call), offered)
        except CallEnded as error:  # its worker has just died
            raise LocalError(str(error)) from error
        return self._begin(hosted)

    def _begin(self, hosted: HostedCall) -> Call:
        """Run the program for a call that has a conversation."""
        call = hosted.call
        if self._endpointer is not None:
            call.use_endpointer(self._endpointer)
        self._runner.begin(hosted)
        return call

    def _check_room(self) -> None:
        if self._closing:
            raise LocalError("the server is shutting down")
        if len(self._table.calls) >= self.config.max_calls:
            raise HostFull(f"all {self.config.max_calls} lines are busy")

    def _recording_of(self, call: Call) -> StartRecording | None:
        """Return the command that begins the recording of a call, if every call is recorded."""
        if self.config.record_dir is None:
            return None
        path = os.path.abspath(os.path.join(os.fsdecode(self.config.record_dir), file_name(call.id, time.time())))
        return StartRecording(control_of(call).expect_recording(path).name, path, call.id)

    async def renegotiate(self, call: Call, offer: str | SessionDescription) -> Renegotiated:
        """Answer a further offer on a call that is up: same certificate, sections and codec (RFC 3264 §8).

        Other ICE credentials in it restart ICE. Raises `ParseError` and `NegotiationError` as `accept` does, and
        `LocalError` if the call is over; the call then goes on as it was.
        """
        description = _read(offer)
        former = await self._execute(call, GetParameters())
        local = replace(former.local, session_version=former.local.session_version + 1)
        agreed = renegotiate(description, former.negotiation, local)
        if restarts_ice(agreed, former.negotiation):
            fresh = self._renew(former.local.ice_ufrag)
            local = replace(local, ice_ufrag=fresh.ufrag, ice_pwd=fresh.password)
            if not local.ice_lite:  # RFC 8445 §9: what holds now
                local = replace(local, candidates=self.candidates_of(call, False))
            agreed = renegotiate(description, former.negotiation, local)
        await self._execute(call, Renegotiate(SessionParameters(local, agreed, former.offer_size)))
        if local.ice_ufrag != former.local.ice_ufrag:
            await self._add_ufrag(call, local.ice_ufrag)
        return Renegotiated(agreed.answer.serialize(), local.ice_ufrag)

    def _renew(self, ufrag: str) -> IceCredentials:
        fresh = IceCredentials.renew(os.urandom, ufrag)
        return replace(fresh, password=self._password(fresh.ufrag, fresh.password))

    async def parameters(self, call: Call) -> SessionParameters:
        """Return what was agreed on for a call; `LocalError` if it is over."""
        return await self._execute(call, GetParameters())

    async def restart_ice(self, call: Call, remote: IceCredentials) -> IceCredentials:
        """Begin an ICE restart that the peer asked for with its new credentials; return ours (RFC 8445 §9).

        The call goes on over its present path until the peer proves another. Raises `LocalError` if it cannot.
        """
        former = await self._execute(call, GetParameters())
        credentials = self._renew(former.local.ice_ufrag)
        await self._execute(call, RestartIce(credentials, remote))
        await self._add_ufrag(call, credentials.ufrag)
        return credentials

    async def add_remote_candidates(self, call: Call, candidates: Sequence[str]) -> None:
        """Hand over candidates that the peer trickled; those that are malformed are counted."""
        control_of(call).command(AddRemoteCandidates(tuple(candidates)))

    async def _execute(self, call: Call, command: Command[ResultT]) -> ResultT:
        try:
            return await control_of(call).execute(command)
        except CallEnded as error:
            raise LocalError("the call is over") from error

    async def _add_ufrag(self, call: Call, ufrag: str) -> None:
        hosted = self._table.calls.get(call.id)
        try:
            if hosted is None:
                raise CallEnded("the call is over")
            await hosted.link.execute(AddUfrag(call.id, ufrag))
        except CallEnded as error:
            raise LocalError("the call is over") from error

    async def tally(self) -> MediaTally:
        """Return what was counted since the start by calls, over or not, by the port, by workers and by the host.

        The names of the counters are those of `docs/counters.md`.
        """
        counted = await self._media.tally()
        total = Counters.of(counted.counters)
        total.merge(self._table.counters)
        total.merge(self.counters)
        if self._program_counters is not None:
            total.merge(self._program_counters)
        if self._tcp is not None:
            total.merge(self._tcp.counters)
        for hosted in self._table.calls.values():
            total.merge(hosted.control.counters)
        return structs.replace(counted, counters=total.snapshot())

    async def packet_totals(self) -> Mapping[str, int]:
        """Return how many RTP packets were received and sent, by calls that are over and by those that are not."""
        total = (await self.tally()).totals
        return {"received": total.packets_received, "sent": total.packets_sent}

    async def all_counters(self) -> Mapping[str, int]:
        """Return the counters of `tally`."""
        return (await self.tally()).counters

    async def frame_lateness(self) -> Lateness:
        """Return how late frames left, in calls that are over and in those that are not."""
        return (await self.tally()).frame_lateness()

    async def stop(self) -> None:
        """Hang up every call in an orderly way, wait for the programs, and close the port."""
        self._closing = True
        self.stop_listening_tcp()
        for waiting in (self._rereading, self._asking, self._telling):
            if waiting is not None:
                waiting.cancel()
        for call in self.calls.values():
            call.hang_up()
        await self._runner.stop()
        await self._media.stop()


def _read(offer: str | SessionDescription) -> SessionDescription:
    return offer if isinstance(offer, SessionDescription) else SessionDescription.parse(offer)


def _suited(config: HostConfig, turns: TurnSettings | None) -> HostConfig:
    """Return `config` with the turns that suit the program, or an endpointer that is asked in one mode only."""
    if turns is None and config.conversation.endpointer != "rules":
        turns = TurnSettings(mode=TurnMode.SEMANTIC)
    if turns is None or config.conversation.turns != TurnSettings():
        return config
    return replace(config, conversation=replace(config.conversation, turns=turns))
