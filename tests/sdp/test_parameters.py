from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.core.errors import ParseError
from stack.core.values import MAX_JSON_SIZE
from stack.sdp import LocalData, LocalParameters, Negotiation, negotiate
from tests.sdp.offers import OFFERS, our_side, read


@pytest.mark.parametrize("path", OFFERS, ids=lambda path: path.stem)
def test_a_negotiation_survives_as_json(path: object) -> None:
    negotiation = negotiate(read(path), our_side())  # type: ignore[arg-type]
    text = negotiation.to_json()
    assert json.loads(text)["remote_ice_ufrag"] == negotiation.remote_ice_ufrag
    assert Negotiation.from_json(text) == negotiation


def test_our_side_survives_as_json() -> None:
    for local in (our_side(), our_side(audio=None, data=LocalData(sctp_init=b"\x01\x00\xff"))):
        assert LocalParameters.from_json(local.to_json().encode()) == local


@pytest.mark.parametrize(
    "change",
    [
        {"dtls_role": "both"},
        {"remote_fingerprints": "AB"},
        {"remote_ice_lite": 1},
        {"media": 5},
        {"media": [5]},
        {"media": [None]},
        {"media": [{"mid": "0"}]},
        {"ignored": {"line": "one"}},
        {"answer": "v=1"},
        {"answer": None},
        {"surprise": 1},
        {
            "answer": {
                "origin": {"session_id": 1, "session_version": 1, "username": "", "address": "::"},
                "surprise": 1,
            }
        },
        {"answer": {"origin": {"session_id": 1, "session_version": 1, "username": "a b"}}},
        {"remote_fingerprints": [{"algorithm": "sha-256", "value": "AB"}]},
        {
            "media": [
                {"mid": None, "remote_sctp_port": True, "remote_max_message_size": 0, "remote_sctp_init": None}
            ]
        },
    ],
)
def test_json_of_another_shape(change: dict[str, object]) -> None:
    plain = json.loads(negotiate(read(OFFERS[1]), our_side()).to_json())
    with pytest.raises(ParseError):
        Negotiation.from_json(json.dumps(plain | change))


def test_a_field_with_a_default_may_be_missing() -> None:
    plain = json.loads(our_side().to_json())
    del plain["audio"]["ptime"], plain["end_of_candidates"]
    assert LocalParameters.from_json(json.dumps(plain)) == our_side()


@pytest.mark.parametrize("change", [{"ice_pwd": "short"}, {"audio": {"ssrc": 1 << 40, "cname": "a"}}])
def test_our_side_out_of_its_bounds_is_no_bug_of_the_reader(change: dict[str, object]) -> None:
    plain = json.loads(our_side().to_json())
    with pytest.raises(ParseError):
        LocalParameters.from_json(json.dumps(plain | change))


def test_json_that_is_too_long() -> None:
    with pytest.raises(ParseError, match="at most"):
        Negotiation.from_json(" " * MAX_JSON_SIZE + "{}")


@given(st.text() | st.binary() | st.recursive(st.none() | st.integers(), st.lists).map(json.dumps))
def test_hostile_json(text: str | bytes) -> None:
    with pytest.raises(ParseError):
        Negotiation.from_json(text)


def test_deeply_nested_json() -> None:
    with pytest.raises(ParseError):
        Negotiation.from_json("[" * 100_000)
