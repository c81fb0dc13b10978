"""What is known of a call from the request that made it, and the functions that its client offers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class CallContext:
    """What is known of a call from the request that made it."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """The HTTP request's headers, names in lower case."""
    session: Mapping[str, Any] = field(default_factory=dict)
    """The JSON that came with the offer, if any."""
    remote: str = ""
    """The address that the request came from."""
    state: Mapping[str, Any] = field(default_factory=dict)
    """What an application around this one has noted of the request: ASGI's `scope["state"]`, and `user`."""
    ticket: str = ""
    """The reference of the ticket that made the call, 16 hexadecimal digits; empty for one that an offer made.

    Where another process has made the ticket, or it was made ahead of the call, there is nothing of a request here
    but `claim`, `program` and `tenant`, which travel in it.
    """
    claim: str = ""
    """What the maker of the ticket says of the caller (`--claim-header`): up to 79 bytes of text, 31 beside
    the longest name of a node."""
    program: int = 0
    """A number of 16 bits that the maker of the ticket has put in."""
    tenant: int = 0
    """The same with 32 bits."""
    node: str = ""
    """The media node that has the call, where there are several machines (docs/scale.md)."""
    region: str = ""
    """Where that node is, in its operator's words."""
    continuation: int = 0
    """How many program processes have had this call before: not 0 where one died, or was shut down, in the middle
    of it. What is said to a person who is in the middle of a conversation depends on it."""
    moved_from: str = ""
    """The id of the call that this one takes the place of, as its client says: that call's machine is being
    shut down, or nothing came from it any more. The id cannot be guessed, so a program may give the state of that
    call to this one."""
    avoid: str = ""
    """The node with which the client has lost that call, as it says: signaling prefers another."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the client offers to be called; `parameters` is the JSON schema of its arguments."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
