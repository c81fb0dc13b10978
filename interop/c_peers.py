"""The peers in C, built where they can be: DTLS and SCTP of libraries of the distribution; wolfSSL, from cargo.

    python -m interop.c_peers

builds all into `build/peers`; what is there and not older than its source is left alone. wolfSSL's source comes
with a Rust crate and takes some 15 seconds to compile; a test never fetches or compiles it, so it is absent until
this was run. The other programs are one small file each, and are compiled when they are asked for.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PEERS = Path(__file__).parent / "peers"
SOURCE = PEERS / "c_dtls"
BUILD = Path(__file__).parent.parent / "build" / "peers"
_PATIENCE = 300
_PLATFORM = "x86_64-unknown-linux-gnu"
_PROTOCOL = ("dtls", "dtls13", "internal", "keys", "ssl", "tls", "tls13", "wolfio")
_CRYPTO = (
    *("aes", "asn", "chacha", "chacha20_poly1305", "coding", "curve25519", "ecc", "error", "evp", "fe_operations"),
    *("ge_operations", "hash", "hmac", "kdf", "logging", "md5", "memory", "poly1305", "random", "rsa", "sha"),
    *("sha256", "sha3", "sha512", "signature", "sp_int", "wc_encrypt", "wc_mlkem", "wc_mlkem_poly", "wc_port"),
    *("wolfmath",),
)


class Absent(Exception):
    """Something is missing here; the text says what."""


def _run(command: Sequence[str | Path], folder: Path) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        raise Absent(f"{command[0]} took more than {_PATIENCE} s") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["failed"]
        raise Absent(f"{command[0]}: {next((line for line in lines if 'error' in line), lines[-1])}")
    return done.stdout


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Absent(f"there is no {name}")
    return found


def _is_fresh(program: Path, *sources: Path) -> bool:
    if not program.exists():
        return False
    return all(each.stat().st_mtime <= program.stat().st_mtime for each in (SOURCE / "peer.h", *sources))


@dataclass(frozen=True, slots=True)
class SmallProgram:
    """One C file around a library of the distribution, compiled when it is asked for."""

    source: Path
    flags: tuple[str, ...]
    package: str
    """Debian's, which has the library and its headers."""

    @property
    def program(self) -> Path:
        """Where it is built."""
        return BUILD / f"{self.source.stem}_{self.source.parent.name.removeprefix('c_')}"

    def build(self) -> Path:
        """Compile it, if it is older than its source; `Absent` if there is no compiler, or no such library."""
        if not _is_fresh(self.program, self.source):
            compiler = _tool("cc")
            BUILD.mkdir(parents=True, exist_ok=True)
            scratch = self.program.with_suffix(f".{os.getpid()}")  # tests run side by side: each makes its own
            _run((compiler, "-O1", "-o", scratch, self.source, *self.flags), self.source.parent)
            scratch.replace(self.program)
        return self.program


SMALL_PROGRAMS = {
    "mbedtls": SmallProgram(SOURCE / "mbedtls.c", ("-lmbedtls", "-lmbedx509", "-lmbedcrypto"), "libmbedtls-dev"),
    "openssl": SmallProgram(SOURCE / "openssl.c", ("-lssl", "-lcrypto"), "libssl-dev"),
    "gnutls": SmallProgram(SOURCE / "gnutls.c", ("-lgnutls",), "libgnutls28-dev"),
    "nss": SmallProgram(
        SOURCE / "nss.c",
        ("-I/usr/include/nss", "-I/usr/include/nspr", "-lssl3", "-lnss3", "-lnssutil3", "-lnspr4"),
        "libnss3-dev",
    ),
    "usrsctp": SmallProgram(PEERS / "c_sctp" / "usrsctp.c", ("-lusrsctp", "-lpthread"), "libusrsctp-dev"),
}


@cache
def why_small_program_is_absent(name: str) -> str | None:
    """One line that says why a small program cannot be built here; None if it is there."""
    try:
        SMALL_PROGRAMS[name].build()
    except Absent as why:
        return f"{name} cannot be built here: {why}"
    return None


def build_wolfssl(program: Path = BUILD / "wolfssl_dtls") -> Path:
    """Fetch and compile wolfSSL and the program around it; `Absent` if there is no compiler, cargo or crate."""
    if not _is_fresh(program, *(SOURCE / name for name in ("wolfssl.c", "user_settings.h", "Cargo.toml"))):
        compiler, cargo = _tool("cc"), _tool("cargo")
        work = BUILD / "wolfssl"
        (work / "src").mkdir(parents=True, exist_ok=True)
        (work / "src" / "lib.rs").touch()
        shutil.copy(SOURCE / "Cargo.toml", work)
        # For one platform, whichever: nothing of the crate itself is compiled, and half of its needs are Windows'.
        _run((cargo, "fetch", "--target", _PLATFORM), work)
        metadata = (cargo, "metadata", "--format-version", "1", "--offline", "--filter-platform", _PLATFORM)
        packages = json.loads(_run(metadata, work))["packages"]
        crate = next(Path(p["manifest_path"]).parent for p in packages if p["name"] == "wolfssl-sys")
        root = crate / "wolfssl-src"
        flags = ("-O1", "-w", "-DWOLFSSL_USER_SETTINGS", f"-I{SOURCE}", f"-I{root}")
        files = [root / "src" / f"{name}.c" for name in _PROTOCOL]
        files += [root / "wolfcrypt" / "src" / f"{name}.c" for name in _CRYPTO]
        _run((compiler, *flags, "-o", program, SOURCE / "wolfssl.c", *files, "-lm"), work)
    return program


def mbedtls_program() -> Path | None:
    """Return the program around mbedTLS; None if it cannot be built here."""
    return None if why_small_program_is_absent("mbedtls") else SMALL_PROGRAMS["mbedtls"].program


def wolfssl_program() -> Path | None:
    """Return the program around wolfSSL; None if it was not built."""
    program = BUILD / "wolfssl_dtls"
    return program if program.exists() else None


def main() -> None:
    """Build what can be built, and say in one line what cannot."""
    every = {"wolfSSL": build_wolfssl, **{name: each.build for name, each in SMALL_PROGRAMS.items()}}
    for name, build in every.items():
        try:
            print(f"{name}: {build()}")
        except Absent as why:
            print(f"{name} is left out: {why}")


if __name__ == "__main__":
    main()
