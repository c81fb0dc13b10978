"""Username fragments and passwords."""

from __future__ import annotations

import pytest

from stack.core.errors import LocalError, ParseError
from stack.ice import MAX_LOCAL_UFRAG, IceCredentials, node_of, split_username
from tests.sim.entropy import entropy


def test_fresh_ones_are_legal_and_differ() -> None:
    random_bytes = entropy(1)
    made = [IceCredentials.generate(random_bytes) for _ in range(50)]
    assert (
        len({credentials.ufrag for credentials in made})
        == len({credentials.password for credentials in made})
        == 50
    )
    assert {len(credentials.password) for credentials in made} == {24}
    assert all(node_of(credentials.ufrag) is None for credentials in made)


def test_the_node_can_be_read_off_the_ufrag() -> None:
    credentials = IceCredentials.generate(entropy(1), "ams3")
    assert node_of(credentials.ufrag) == "ams3"
    assert len(IceCredentials.generate(entropy(1), "n" * 64).ufrag) <= MAX_LOCAL_UFRAG
    for node in ("a+b", "a:b", "n" * 65):
        with pytest.raises(LocalError):
            IceCredentials.generate(entropy(1), node)


@pytest.mark.parametrize("ufrag", ["+FPy", "234da488", "a" * 256])
@pytest.mark.parametrize("password", ["uWCk9JkPuY7KviCZrMAOX9Oy", "1+a1GlZqWWWOEGhLAXSYmL", "p" * 256])
def test_what_browsers_send_is_taken(ufrag: str, password: str) -> None:
    assert IceCredentials.parse(ufrag, password).ufrag == ufrag


@pytest.mark.parametrize(
    ("ufrag", "password"),
    [("abc", "p" * 22), ("a" * 257, "p" * 22), ("ab:cd", "p" * 22), ("abcd\n", "p" * 22), ("abcd", "p" * 21)],
)
def test_what_is_not_allowed_is_refused(ufrag: str, password: str) -> None:
    with pytest.raises(ParseError):
        IceCredentials.parse(ufrag, password)
    with pytest.raises(LocalError):
        IceCredentials(ufrag, password)


def test_the_password_is_not_printed() -> None:
    assert "secretsecretsecretsecret" not in repr(IceCredentials("abcd", "secretsecretsecretsecret"))


def test_a_username_is_split_at_its_colon() -> None:
    assert split_username("server:client") == ("server", "client")
    assert split_username("server") is None
    assert split_username(":client") is None
    assert split_username("server:") is None
