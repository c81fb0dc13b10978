"""A network with nothing in it but loopback, for this thread and all that it starts.

A browser gathers candidates on every interface it finds and talks to other hosts when it can. In a namespace of
its own there is only 127.0.0.1 and ::1, and no port can clash. It needs no `ip` program and leaves nothing behind:
the kernel drops the namespace with the last process in it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1


@contextmanager
def loopback_namespace() -> Iterator[bool]:
    """Move the calling thread into a network namespace with only loopback; back again afterwards.

    Yields False, and does nothing, where the system does not permit it (no privilege, or not Linux). Sockets keep
    the namespace that they were made in, child processes inherit it; threads that run already stay where they are,
    so enter before starting any that will open sockets.
    """
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        former = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        if libc.unshare(_CLONE_NEWNET) != 0:
            yield False
            return
        try:
            _raise_loopback()
            yield True
        finally:
            if libc.setns(former, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "cannot go back to the former network namespace")
    finally:
        os.close(former)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", _IFF_UP)
        fcntl.ioctl(control, _SIOCSIFFLAGS, request)
