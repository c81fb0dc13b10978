"""That the flood's checks with a wrong password get as far as the password."""

from __future__ import annotations

from bench._flooding import checks
from bench.flood import _OFFER, username_of
from stack.core.machine import Address, Path
from stack.ice import IceCredentials, LiteAgent
from stack.sdp import SessionDescription
from tests.sim.entropy import entropy

PATH = Path(Address("192.0.2.1", 3478), Address("192.0.2.2", 5000))


def test_a_wrong_password_is_what_refuses_the_checks() -> None:
    offer = SessionDescription.parse(_OFFER.read_text())
    own = IceCredentials.generate(entropy("own"))
    agent = LiteAgent(own)
    agent.set_remote_ufrag(offer.media[0].ice_ufrag or "", 0.0)
    (check, *_) = checks(username_of("wrong password", own.ufrag))
    agent.handle_datagram(check, PATH, 0.0)
    assert agent.counters["ice.dropped_wrong_integrity"] == 1
    (check, *_) = checks(username_of("unknown ufrag", own.ufrag))
    agent.handle_datagram(check, PATH, 0.0)
    assert agent.counters["ice.dropped_wrong_username"] == 1
