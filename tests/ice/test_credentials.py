"""Username fragments and passwords."""

from __future__ import annotations

import pytest

from stack.core.errors import LocalError, ParseError
from stack.core.ufrag import MAX_LOCAL_UFRAG
from stack.ice import IceCredentials, Ufrag, split_username
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


def test_a_servers_fragment_names_its_worker_and_node_through_restarts() -> None:
    random_bytes = entropy(1)
    credentials = IceCredentials.generate_for(random_bytes, 11, "ams3")
    assert credentials.ufrag.startswith("bams3+")
    again = IceCredentials.renew(random_bytes, credentials.ufrag)
    assert again.ufrag != credentials.ufrag
    assert again.password != credentials.password
    assert (Ufrag.parse(again.ufrag).worker, Ufrag.parse(again.ufrag).node) == (11, "ams3")
    assert len(IceCredentials.generate_for(random_bytes, 0, "n" * 64).ufrag) <= MAX_LOCAL_UFRAG


def test_a_clients_fragment_is_random_after_a_restart_too() -> None:
    random_bytes = entropy(1)
    assert len(IceCredentials.renew(random_bytes, IceCredentials.generate(random_bytes).ufrag).ufrag) == 12


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
