"""A network with nothing in it but loopback, for this thread and all that it starts.

A browser gathers candidates on every interface it finds and talks to other hosts when it can. In a namespace of
its own there is only 127.0.0.1 and ::1, and no port can clash. It needs no `ip` program and leaves nothing behind:
the kernel drops the namespace with the last process in it.

What people have is a machine with an address: `addressed_namespace` adds an interface (one end of a veth pair; on
the other end nothing answers) and a default route, for which it does need `ip`.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1

ADDRESS = "10.66.0.1"
"""The address in an `addressed_namespace`; its default route leads to 10.66.0.2, which is absent."""
_VETH = (
    "link add call0 type veth peer name call1",
    f"address add {ADDRESS}/24 dev call0",
    "link set call0 up",
    "link set call1 up",
    "route add default via 10.66.0.2",
)


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


@contextmanager
def addressed_namespace() -> Iterator[str | None]:
    """Like `loopback_namespace`, with an interface that has an address and the default route.

    Yields None, or one line that says why there is no such network here.
    """
    with loopback_namespace() as isolated:
        if not isolated:
            yield "network namespaces are not permitted here"
            return
        ip = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if ip is None:
            yield "there is no `ip` (iproute2) here"
            return
        for command in _VETH:
            done = subprocess.run([ip, *command.split()], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                yield f"ip {command}: {done.stderr.strip()}"
                return
        yield None


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", _IFF_UP)
        fcntl.ioctl(control, _SIOCSIFFLAGS, request)
