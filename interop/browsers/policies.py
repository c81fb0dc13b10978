"""Policies for Chromium, as an administrator sets them, for what this thread starts and for nothing else.

Chromium reads them from one folder of the system. A mount namespace of our own has another in its place: other
browsers of the machine see nothing of it, and the kernel forgets it with the last process.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_CLONE_NEWNS = 0x20000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
FOLDERS = (Path("/etc/chromium"), Path("/etc/opt/chrome"))


class PoliciesUnavailable(Exception):
    """There can be no namespace here, or there is no folder of Chromium's."""


@contextmanager
def managed_policies(policies: Mapping[str, bool | int | str]) -> Iterator[None]:
    """Context: Chromium that is started by this thread obeys `policies`. Raises `PoliciesUnavailable`."""
    folder = next((each for each in FOLDERS if each.is_dir()), None)
    if folder is None:
        raise PoliciesUnavailable("there is no folder of Chromium's below /etc")
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        former = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise PoliciesUnavailable("no mount namespaces here") from error
    where = os.getcwd()
    try:
        if libc.unshare(_CLONE_NEWNS) != 0:
            raise PoliciesUnavailable("mount namespaces are not permitted here")
        try:
            _mount(libc, b"none", b"/", None, _MS_REC | _MS_PRIVATE)
            _mount(libc, b"tmpfs", str(folder).encode(), b"tmpfs", 0)
            managed = folder / "policies" / "managed"
            managed.mkdir(parents=True)
            (managed / "bench.json").write_text(json.dumps(dict(policies)), "utf-8")
            yield
        finally:
            if libc.setns(former, _CLONE_NEWNS) != 0:
                raise OSError(ctypes.get_errno(), "cannot go back to the former mount namespace")
            os.chdir(where)  # setns has moved us to its root
    finally:
        os.close(former)


def _mount(libc: ctypes.CDLL, source: bytes, target: bytes, kind: bytes | None, flags: int) -> None:
    if libc.mount(source, target, kind, ctypes.c_ulong(flags), None) != 0:
        raise PoliciesUnavailable(f"cannot mount {target.decode()}: {os.strerror(ctypes.get_errno())}")
