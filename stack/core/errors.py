"""The errors of the whole stack: each says whose fault it is.

Input from the network never raises out of a machine: a parser raises `ParseError`, the machine catches it in
one place, counts it and drops the datagram. A session that died of something is an event, not an exception.
"""

from __future__ import annotations


class StackError(Exception):
    """Whatever this package raises on purpose."""


class ParseError(StackError):
    """Bytes (or text) from outside that are not what the specification says; the only error a parser raises."""


class LocalError(StackError):
    """Our caller did something that the documented contract forbids: a bug on this side of the wire."""


class RemoteError(StackError):
    """The peer broke the protocol or refused: nothing that the caller could have done differently."""
