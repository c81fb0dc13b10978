"""The offers of the answer benchmark."""

from __future__ import annotations

import random

from bench.answer import OFFER, make_offer
from stack.sdp import SessionDescription
from stack.signaling.connections import ConnectionIdentity


def test_each_offer_is_another_connections_and_of_the_same_shape() -> None:
    text, source = OFFER.read_text(), random.Random(1)
    offers = [SessionDescription.parse(make_offer(text, source)) for _ in range(2)]
    identities = [ConnectionIdentity.of(offer) for offer in offers]
    assert identities[0] is not None
    assert identities[1] is not None
    assert not identities[1].continues(identities[0])
    assert [media.formats for media in offers[0].media] == [media.formats for media in offers[1].media]
    (candidate,) = {text for offer in offers for media in offer.media for text in media.candidates}
    assert "127.0.0.1 9 typ host" in candidate
    assert offers[0].ignored == {}
