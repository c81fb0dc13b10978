"""What the settings of a server may be is checked where they are made, as the command line checks its options."""

from __future__ import annotations

from typing import Any

import pytest

from stack import HostConfig, LocalError, ServeConfig, SignalingConfig
from stack.agents import echo
from stack.asgi import VoiceApp


@pytest.mark.parametrize("name", ["tokens", "origins", "trusted_proxies", "ice_servers", "turn_urls"])
def test_one_text_alone_is_not_taken_for_its_letters(name: str) -> None:
    """`tokens=("secret")` would have let everybody in whose token is a single letter of it."""
    with pytest.raises(LocalError, match=f"{name} is a tuple of texts"):
        SignalingConfig(**{name: "secret"})  # type: ignore[arg-type]
    with pytest.raises(LocalError, match=f"{name} is a tuple of texts"):
        SignalingConfig(**{name: (b"secret",)})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["interfaces", "public_ips"])
def test_nor_are_those_of_the_media(name: str) -> None:
    with pytest.raises(LocalError, match=f"{name} is a tuple of texts"):
        HostConfig(**{name: "203.0.113.7"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokens": ("a b",)}, "without spaces"),
        ({"tokens": ("bogus=abc",)}, "'bogus' is no scope of a token"),
        ({"origins": ("example.com",)}, "'example.com' is not an origin, as https://app.example.com"),
        ({"origins": ("https://example.com/",)}, "no path"),
        ({"origins": ("https://example.com:99999",)}, "is not an origin"),
        ({"trusted_proxies": ("all",)}, "an address or a network"),
        ({"offers_per_second": 0}, "offers_per_second is more than 0"),
        ({"offers_per_client": float("nan")}, "offers_per_client is more than 0"),
        ({"calls_per_client": -1}, "calls_per_client is more than 0"),
    ],
)
def test_what_would_do_nothing_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(LocalError, match=message):
        SignalingConfig(**settings)


def test_what_origins_may_be() -> None:
    allowed = ("*", "null", "https://app.example.com", "http://localhost:3000", "capacitor://localhost")
    assert SignalingConfig(origins=allowed).origins == allowed


def test_one_configuration_in_the_place_of_another_is_refused() -> None:
    media: Any = HostConfig()
    signaling: Any = SignalingConfig()
    for wrong in ({"media": signaling}, {"signaling": media}):
        with pytest.raises(LocalError, match="`media` is a HostConfig"):
            ServeConfig(**wrong)
        with pytest.raises(LocalError, match="`config` is a HostConfig"):
            VoiceApp(echo, config=wrong.get("media"), signaling=wrong.get("signaling"))
    with pytest.raises(LocalError, match="conversation is a ConversationConfig, not ServeConfig"):
        HostConfig(conversation=ServeConfig())  # type: ignore[arg-type]
    with pytest.raises(LocalError, match="3 is not a function"):
        VoiceApp(3)  # type: ignore[arg-type]
