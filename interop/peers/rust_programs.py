"""Peers in Rust: str0m and webrtc-rs, each a program of ours over its public API, built by cargo on demand.

`make peers` leaves them out: a build takes minutes. `python -m interop setup str0m` makes one.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from interop.peers.base import Needs, Traits
from interop.peers.programs import HERE, ROOT, ProgramPeer

TARGET = Path("build") / "peers" / "cargo"
"""Where cargo works; both share what they have in common."""


def _crate_version(folder: Path, crate: str) -> str:
    """The version that the last build took."""
    lock = folder / "Cargo.lock"
    if not lock.exists():
        return ""
    packages = tomllib.loads(lock.read_text("utf-8"))["package"]
    return next((str(each["version"]) for each in packages if each["name"] == crate), "")


def rust_peer(
    name: str, folder_name: str, crate: str, traits: Traits, supported: frozenset[str] = frozenset({"video"})
) -> ProgramPeer:
    """A program in `folder_name`, which has to be younger than its source."""
    folder = HERE / folder_name
    program = ROOT / TARGET / "release" / f"{folder_name}_peer"
    sources = (folder / "src" / "main.rs", folder / "Cargo.toml")

    def absent() -> str | None:
        setup = f"`python -m interop setup {name}` builds it where there is cargo"
        if not program.exists():
            return f"{name} is not built here: {setup}"
        if program.stat().st_mtime < max(each.stat().st_mtime for each in sources):
            return f"{name} was built from an older source: {setup}"
        return None

    manifest = (folder / "Cargo.toml").relative_to(ROOT)
    build = ("cargo", "build", "--release", "--jobs", "1", "--manifest-path", str(manifest))
    return ProgramPeer(
        name,
        Needs(
            f"cargo (Rust 1.85 or later): builds a program of ours over the crate {crate}, in minutes",
            ((*build, "--target-dir", str(TARGET)),),
        ),
        (str(program),),
        absent,
        lambda: _crate_version(folder, crate),
        traits=traits,
        needs_packets=True,
        supported=supported,
    )


RUST_PROGRAMS = (
    rust_peer("webrtc-rs", "webrtc_rs", "webrtc", Traits(), frozenset({"video", "setup"})),
    # An empty message it takes, and sends as nothing at all.
    rust_peer("str0m", "str0m", "str0m", Traits(knows_empty=False), frozenset({"video", "dtls"})),
)
