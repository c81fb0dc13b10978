"""Peers that are one protocol of another stack: DTLS alone, SCTP alone. All else of their calls is ours.

`in_part.py` is the program; the table says which parts there are, and what they need.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache

from interop.c_peers import SMALL_PROGRAMS, why_small_program_is_absent, wolfssl_program
from interop.evidence import Side
from interop.peers.base import End, Needs, Traits, UnsupportedError, Wishes
from interop.peers.dtls_tools import PROFILE
from interop.peers.ours import Ours
from interop.peers.programs import HERE, ProgramPeer, module_version
from interop.peers.sctp_tools import PROGRAMS

_OUTPUT = (str(PROGRAMS["pion-sctp"]), ".")


@dataclass
class Part(ProgramPeer):
    """A part of another stack. `versions` are those of DTLS that it can be held to."""

    supported: frozenset[str] = frozenset({"dtls", "setup"})
    versions: frozenset[str] = field(default_factory=frozenset)
    profile: str = ""
    """The only SRTP profile that its DTLS is told to agree on; empty: all of ours."""

    @asynccontextmanager
    async def start(self, side: Side, wishes: Wishes) -> AsyncIterator[End]:
        if wishes.dtls and wishes.dtls not in self.versions:
            raise UnsupportedError(f"{self.name} has no DTLS {wishes.dtls}")
        if self.profile and wishes.srtp not in ("", self.profile):
            raise UnsupportedError(f"the program around {self.name} knows {self.profile} alone")
        async with super().start(side, wishes) as end:
            yield end


def _said(*command: str) -> str:
    """The first version number that a command says; empty if it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return ""
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout)
    return found[0] if found else ""


def dtls_part(
    name: str, needs: Needs, absent: Callable[[], str | None], version: Callable[[], str], *versions: str
) -> Part:
    """A stack's DTLS in a call of ours."""
    return Part(
        name,
        needs,
        (sys.executable, "-m", "interop.peers.in_part", name),
        absent,
        cache(version),
        traits=Traits(has_data=False, waits_for_return=Ours.traits.waits_for_return),
        versions=frozenset(versions),
        profile=PROFILE.name,
    )


def _small(name: str) -> tuple[Needs, Callable[[], str | None], Callable[[], str]]:
    package = SMALL_PROGRAMS[name].package
    needs = Needs(f"a C compiler and Debian's {package}", ((sys.executable, "-m", "interop.c_peers"),))
    query = ("dpkg-query", "--show", "--showformat=${Version}", package)
    return needs, lambda: why_small_program_is_absent(name), lambda: _said(*query)


def _why_pion_sctp_is_absent() -> str | None:
    program, source = PROGRAMS["pion-sctp"], HERE / "pion_sctp" / "main.go"
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return None
    return "Pion's SCTP is not built here: `python -m interop setup pion-sctp` builds it where there is go"


def sctp_part(name: str, needs: Needs, absent: Callable[[], str | None], version: Callable[[], str]) -> Part:
    """A stack's SCTP in a call of ours."""
    program = (sys.executable, "-m", "interop.peers.in_part", name)
    traits = Traits(waits_for_return=Ours.traits.waits_for_return)
    return Part(name, needs, program, absent, cache(version), traits=traits, versions=frozenset({"1.2", "1.3"}))


PARTS = (
    dtls_part("openssl", *_small("openssl"), "1.2"),
    dtls_part("gnutls", *_small("gnutls"), "1.2"),
    dtls_part("mbedtls", *_small("mbedtls"), "1.2"),
    dtls_part(
        "wolfssl",
        Needs("a C compiler and cargo", ((sys.executable, "-m", "interop.c_peers"),)),
        lambda: None if wolfssl_program() else "wolfSSL is not built here: `make peers` builds it",
        lambda: "",
        "1.2",
        "1.3",
    ),
    dtls_part("nss", *_small("nss"), "1.2"),
    sctp_part("usrsctp", *_small("usrsctp")),
    sctp_part(
        "pion-sctp",
        Needs(
            "Go 1.24 or later: builds a program of ours over github.com/pion/sctp",
            (("go", "build", "-C", "interop/peers/pion_sctp", "-p", "1", "-buildvcs=false", "-o", *_OUTPUT),),
        ),
        _why_pion_sctp_is_absent,
        lambda: module_version(HERE / "pion_sctp", "github.com/pion/sctp"),
    ),
)
