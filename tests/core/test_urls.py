"""What of an address may be shown."""

from __future__ import annotations

import pytest

from stack.core.urls import without_user


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:8080/a?b#c", "http://127.0.0.1:8080/a?b#c"),
        ("https://me:secret@voice.example/", "https://voice.example/"),
        ("wss://me@voice.example", "wss://voice.example"),
        ("http://me:p@ss@voice.example:1/x", "http://voice.example:1/x"),
        ("http://voice.example/a@b?c@d", "http://voice.example/a@b?c@d"),
        ("no address", "no address"),
    ],
)
def test_neither_user_nor_password_is_shown(url: str, shown: str) -> None:
    assert without_user(url) == shown
