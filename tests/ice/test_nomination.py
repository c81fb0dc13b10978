"""Which of several nominations a controlled agent obeys, and those that we make ourselves."""

from __future__ import annotations

import pytest

from stack.core.errors import LocalError
from stack.core.machine import Address, Path
from stack.ice import Candidate, CandidatePair, IceAgent, IceSettings, IceState
from stack.ice.nomination import SETTLED, PeerNominations
from stack.stun import (
    IceControlling,
    Message,
    MessageClass,
    Method,
    Nomination,
    Priority,
    TransactionId,
    UseCandidate,
    Username,
    XorMappedAddress,
    short_term_key,
)
from tests.sim.ice import A6, B6, A, B, IceNetwork, Node, full, signal, start

OURS = Candidate.host_candidate(A)
SILENCE = 3.5


def pair(
    preference: int, *, last_received: float = 0.0, plain: bool = False, nomination: int = 0
) -> CandidatePair:
    remote = Candidate.host_candidate(Address("10.0.0.2", 1000 + preference), preference)
    made = CandidatePair(OURS, remote, controlling=False)
    made.last_received, made.plainly_checked, made.nomination = last_received, plain, nomination
    return made


def test_the_first_nomination_and_one_that_is_repeated_are_obeyed() -> None:
    nominations, one = PeerNominations(SILENCE), pair(5)
    assert nominations.obeys(one, None, 0.0)
    assert nominations.obeys(one, one, 1.0)


def test_of_an_aggressive_peer_the_best_pair_wins_in_whatever_order() -> None:
    nominations, best, worst = PeerNominations(SILENCE), pair(9, last_received=1.0), pair(1, last_received=1.0)
    nominations.note_selected(0.0)
    assert not nominations.obeys(worst, best, 1.0)
    assert nominations.obeys(best, worst, 1.0)


def test_of_a_regular_peer_the_latest_wins() -> None:
    nominations, best, worst = PeerNominations(SILENCE), pair(9, last_received=1.0), pair(1, plain=True)
    assert nominations.obeys(worst, best, 1.0)


def test_a_silent_pair_gives_way_to_any() -> None:
    nominations, best, worst = PeerNominations(SILENCE), pair(9, last_received=1.0), pair(1)
    assert not nominations.obeys(worst, best, 1.0 + SILENCE - 0.1)
    assert nominations.obeys(worst, best, 1.0 + SILENCE)


def test_a_pair_that_turns_up_late_is_a_move_and_is_obeyed_once() -> None:
    nominations, best, fresh = PeerNominations(SILENCE), pair(9, last_received=100.0), pair(1)
    nominations.note_selected(100.0 - SETTLED)
    assert nominations.obeys(fresh, best, 100.0)
    assert not nominations.obeys(fresh, best, 100.1)
    nominations.clear()
    assert not nominations.obeys(fresh, best, 100.2)


@pytest.mark.parametrize(("ours", "theirs", "obeyed"), [(1, 2, True), (2, 1, False), (1, 0, False), (0, 1, True)])
def test_numbers_decide_where_there_are_any(ours: int, theirs: int, obeyed: bool) -> None:
    nominated = pair(5, last_received=1.0, nomination=ours)
    other = pair(9, plain=True, nomination=theirs)
    assert PeerNominations(SILENCE).obeys(other, nominated, 1.0) is obeyed


def two_paths(*, renomination: bool = False) -> tuple[IceNetwork, Node, Node]:
    """Two agents with a nominated path, and another that turned up later and is valid."""
    network = IceNetwork(delay=0.01)
    settings = IceSettings(renomination=renomination)
    one = network.join(full("one", controlling=True, settings=settings), A6)
    other = network.join(full("other", controlling=False), B6)
    signal(network, one, other)
    start(network)
    assert network.run(2.0, lambda: other.machine.state is IceState.COMPLETED)
    for node, ours, theirs in ((one, A, B), (other, B, A)):
        network.add_address(node, ours)
        node.machine.add_remote_candidate(Candidate.host_candidate(theirs, 5), network.now)
        node.machine.add_local_candidate(Candidate.host_candidate(ours, 5), network.now)
        node.pump()
    network.run(1.0)
    return network, one, other


@pytest.mark.parametrize("renomination", [True, False])
def test_a_controlling_agent_can_nominate_again(renomination: bool) -> None:
    network, one, other = two_paths(renomination=renomination)
    agent = one.machine
    assert isinstance(agent, IceAgent)
    assert agent.selected_path == Path(A6, B6)
    path = Path(A, B)
    one.command(lambda machine, now: machine.renominate(path, now))  # type: ignore[union-attr]
    assert network.run(2.0, lambda: other.machine.selected_path == Path(B, A))
    network.run(0.1)
    assert agent.selected_path == path
    numbers = [
        number.value for sent in one.sent if (number := Message.parse(sent.data).get(Nomination)) is not None
    ]
    assert set(numbers) == ({1, 2} if renomination else set())
    network.run(60.0)
    assert agent.selected_path == path


def test_what_cannot_be_nominated_is_our_error() -> None:
    network, one, other = two_paths()
    for node, path in ((one, Path(A, Address("10.9.9.9", 1))), (other, Path(B, A))):
        agent = node.machine
        assert isinstance(agent, IceAgent)
        with pytest.raises(LocalError):
            agent.renominate(path, network.now)


def test_an_aggressive_peer_leads_to_the_best_pair() -> None:
    """Like libwebrtc facing a full agent: every check carries the flag, the worse pair's the last."""
    network = IceNetwork(delay=0.01)
    node = network.join(full("controlled", controlling=False), A, A6)
    agent = node.machine
    assert isinstance(agent, IceAgent)
    peer = full("peer", controlling=True).credentials
    agent.set_remote_credentials(peer, network.now)
    for number, address in enumerate((B, B6)):
        agent.add_remote_candidate(Candidate.host_candidate(address, 65535 - number), network.now)
    start(network)

    def check(path: Path, number: int) -> None:
        attributes = (
            Username(f"{agent.credentials.ufrag}:{peer.ufrag}"), IceControlling(1), Priority(1), UseCandidate()
        )  # fmt: skip
        transaction_id = TransactionId(bytes([number]) * 12)
        request = Message(MessageClass.REQUEST, Method.BINDING, transaction_id, attributes)
        node.take(request.sign(short_term_key(agent.credentials.password)), path)

    def answer_all() -> None:
        for sent in list(node.sent):
            message = Message.parse(sent.data)
            if message.message_class is MessageClass.REQUEST:
                response = message.respond(MessageClass.SUCCESS_RESPONSE, XorMappedAddress(sent.path.local))
                node.take(response.sign(short_term_key(peer.password)), sent.path)
        node.sent.clear()

    for number, path in enumerate((Path(A6, B6), Path(A, B), Path(A6, B6), Path(A6, B6))):
        check(path, number)
        network.run(0.06)
        answer_all()
    assert agent.state is IceState.COMPLETED
    assert agent.selected_path == Path(A, B)
