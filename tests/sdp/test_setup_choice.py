"""Who begins DTLS, by the shape of an offer."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack.sdp import SessionDescription, Setup, choose_setup
from tests.sdp.offers import AUDIO, OFFERS, offered

SHA_384 = "a=fingerprint:sha-384 " + ":".join(["AB"] * 48) + "\r\n"
SHA_512 = "a=fingerprint:sha-512 " + ":".join(["AB"] * 64) + "\r\n"


@pytest.mark.parametrize("path", OFFERS, ids=lambda path: path.stem)
def test_a_recorded_client_begins_by_itself(path: Path) -> None:
    assert choose_setup(SessionDescription.parse(path.read_text("utf-8"))) is Setup.PASSIVE


def test_for_aiortc_we_begin() -> None:
    offer = offered(AUDIO, SHA_384 + SHA_512)
    assert choose_setup(offer) is Setup.ACTIVE
    assert choose_setup(offered(AUDIO, SHA_384)) is Setup.PASSIVE
