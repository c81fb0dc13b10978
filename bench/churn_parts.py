"""What a call set up and torn down costs the server, by part, and what OpenSSL's primitives alone take of it.

Calls of our own client in this process, without a network, so that nothing but the server's own work counts: from
the text of an offer to the call that is forgotten. `churn`, under load, has sockets, HTTP, threads and the
program's side as well, and caches that other work has emptied: there everything takes about twice as long.
"""

from __future__ import annotations

import hmac
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from statistics import median
from time import thread_time_ns

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from bench.report import Cell, Options, Table
from stack.core.machine import Path, Transmit
from stack.dtls import Certificate, Version
from stack.sdp import SessionDescription, accept_answer, create_offer, negotiate
from stack.server import Endpoint
from stack.session import LocalWishes, Session, SessionParameters, make_local_parameters
from stack.voice.conversation import Conversation, ConversationConfig, ConversationEvent
from tests.sim.pair import LEFT, RIGHT

CALLS = 200
WARM = 20
"""Calls before those that count."""
KINDS = {"DTLS 1.2, sound": (Version.DTLS_1_2, False), "DTLS 1.3, sound and data": (Version.DTLS_1_3, True)}
"""What the generator of `churn` asks for, and what a browser does."""
READ, DECIDE, WRITE, MAKE = "offer read", "answer decided", "answer written", "conversation made"
CHECK, HELLO, FINISH = "connectivity checks", "DTLS until our flight", "DTLS from then on, keys, data"
GOODBYE, FORGET = "goodbye: RTCP BYE, close_notify", "totals taken, call forgotten"
PARTS = (READ, DECIDE, WRITE, MAKE, CHECK, HELLO, FINISH, GOODBYE, FORGET)
STEP = 0.001
"""Seconds from one exchange of datagrams to the next."""
TALK, MOST = 12, 100
"""Exchanges after which the client hangs up, and after which something is wrong."""
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLIENT, SERVER = Certificate.generate(os.urandom, NOW), Certificate.generate(os.urandom, NOW)


class Watch:
    """Sums the processor time of one call by part."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, int] = defaultdict(int)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Context: what is done counts for a part."""
        began = thread_time_ns()
        yield
        self.spent[part] += thread_time_ns() - began


def run(options: Options) -> Sequence[Table]:
    """Run everything; a few seconds at scale 1."""
    calls = max(3, round(CALLS * options.scale))
    spent = {kind: _by_part(*how, calls) for kind, how in KINDS.items()}
    rows: list[Sequence[Cell]] = [(part, *(each[part] for each in spent.values())) for part in PARTS]
    rows.append(("all", *(sum(each.values()) for each in spent.values())))
    note = f"Medians of {calls} calls, in this process; the server's processor time alone."
    primitives = _primitives(calls)
    table = Table("a call set up and torn down, by part (µs)", ("part", *KINDS), rows, (note,))
    sums = ("all", *(sum(row[place] for row in primitives) for place in (1, 2)))
    notes = ("The exchange is X25519 in 1.2, X25519MLKEM768 in 1.3; signatures are ECDSA P-256.",)
    floor = Table(
        "what OpenSSL takes of it (µs)", ("primitive", "DTLS 1.2", "DTLS 1.3"), [*primitives, sums], notes
    )
    return [table, floor]


def _by_part(version: Version, data: bool, calls: int) -> Mapping[str, float]:
    endpoint: Endpoint[ConversationEvent] = Endpoint()
    watches = [Watch() for _ in range(WARM + calls)]
    for number, watch in enumerate(watches):
        _call(str(number), version, data, endpoint, watch)
    return {part: median(watch.spent[part] for watch in watches[WARM:]) / 1e3 for part in PARTS}


def _call(name: str, version: Version, data: bool, endpoint: Endpoint[ConversationEvent], watch: Watch) -> None:
    """Set one call up and tear it down."""
    theirs = make_local_parameters(os.urandom, CLIENT, [LEFT], LocalWishes(data=data))
    offer = create_offer(theirs, data=data)
    text = offer.serialize()
    with watch(READ):
        description = SessionDescription.parse(text)
    with watch(DECIDE):
        local = make_local_parameters(os.urandom, SERVER, [RIGHT], LocalWishes(ice_lite=True, worker=0))
        agreed = negotiate(description, local)
    with watch(WRITE):
        answer = agreed.answer.serialize()
    with watch(MAKE):
        parameters = SessionParameters(local, agreed)
        conversation = Conversation(parameters, SERVER, ConversationConfig(), os.urandom, 0.0)
        endpoint.add(name, conversation, local.ice_ufrag)
        endpoint.pump()
    accepted = accept_answer(offer, SessionDescription.parse(answer), theirs)
    parameters = SessionParameters(theirs, accepted)
    client = Session(parameters, CLIENT, os.urandom, 0.0, dtls_version=version, dtls_in_stun=False)
    now = _talk(client, conversation, endpoint, watch)
    with watch(FORGET):
        conversation.totals(now)
        conversation.all_counters()


def _talk(
    client: Session, conversation: Conversation, endpoint: Endpoint[ConversationEvent], watch: Watch
) -> float:
    """Carry datagrams from the client's first check until the server's side is over; return the instant then."""
    hangs_up = False
    for number in range(1, MOST):
        now = number * STEP
        client.handle_timeout(now)
        if number == TALK:
            assert conversation.session.security is not None, "the handshake is not complete"
            client.close(now)
            hangs_up = True
        for datagram in client.drain_transmits():
            part = GOODBYE if hangs_up else _part_of(datagram.data, conversation.session)
            with watch(part):
                endpoint.handle_datagrams([_turned(datagram)], now)
                answers = endpoint.drain_transmits()
                endpoint.drain_events()
            for answer in answers:
                client.handle_datagram(*_turned(answer), now)
        client.drain_events()
        if not len(endpoint):
            return now
    raise AssertionError("the call did not end")


def _turned(datagram: Transmit) -> tuple[bytes, Path]:
    data, path = datagram
    return data, Path(path.remote, path.local, path.protocol)


def _part_of(data: bytes, session: Session) -> str:
    """Return what a datagram to the server counts for (RFC 7983 §7 tells them apart)."""
    if data[0] < 4:
        return CHECK
    return FINISH if session.sent.packets else HELLO


def _primitives(repeats: int) -> list[tuple[str, float, float]]:
    """Return what a handshake asks of OpenSSL, with its microseconds in 1.2 and 1.3."""
    key = ec.generate_private_key(ec.SECP256R1())
    algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    signature = key.sign(b"signed", algorithm)
    form, encoding = serialization.PublicFormat.SubjectPublicKeyInfo, serialization.Encoding.DER
    public = key.public_key().public_bytes(encoding, form)
    peer = X25519PrivateKey.generate().public_key().public_bytes_raw()
    hybrid = MLKEM768PrivateKey.generate().public_key().public_bytes_raw()

    def verify() -> None:
        known = serialization.load_der_public_key(public)
        assert isinstance(known, ec.EllipticCurvePublicKey)
        known.verify(signature, b"signed", ec.ECDSA(hashes.SHA256()))

    def exchange() -> None:
        private = X25519PrivateKey.from_private_bytes(os.urandom(32))
        private.public_key().public_bytes_raw()
        private.exchange(X25519PublicKey.from_public_bytes(peer))

    def encapsulate() -> None:
        MLKEM768PublicKey.from_public_bytes(hybrid).encapsulate()

    def derive() -> None:
        for _ in range(20):
            hmac.digest(signature, public, "sha256")

    took = {each: _median(each, repeats) for each in (verify, exchange, encapsulate, derive)}
    signed = _median(lambda: key.sign(b"signed", algorithm), repeats)
    return [
        ("our signature", signed, signed),
        ("the peer's key and signature", took[verify], took[verify]),
        ("X25519: key, share, secret", took[exchange], took[exchange]),
        ("ML-KEM-768: key, encapsulation", 0.0, took[encapsulate]),
        ("20 HMACs of the key schedule", took[derive], took[derive]),
    ]


def _median(action: Callable[[], object], repeats: int) -> float:
    watches = [Watch() for _ in range(repeats)]
    for watch in watches:
        with watch("it"):
            action()
    return median(watch.spent["it"] for watch in watches) / 1e3
