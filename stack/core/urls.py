"""Addresses of servers as people write them (RFC 3986): what of them may be shown."""

from __future__ import annotations

import re


def without_user(url: str) -> str:
    """Return a URL without the user and the password in it (RFC 3986 §3.2.1), as it may be logged and shown."""
    return re.sub(r"//[^/?#]*@", "//", url)
