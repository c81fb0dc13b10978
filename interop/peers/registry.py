"""Every peer that the harness knows, in the order of its matrix."""

from __future__ import annotations

from interop.peers.base import Peer
from interop.peers.in_browsers import BROWSERS
from interop.peers.npm_clients import NPM_CLIENTS
from interop.peers.ours import Ours
from interop.peers.parts import PARTS
from interop.peers.programs import PROGRAMS
from interop.peers.rust_programs import RUST_PROGRAMS

PEERS: dict[str, Peer] = {
    peer.name: peer for peer in (Ours(), *BROWSERS, *PROGRAMS, *RUST_PROGRAMS, *NPM_CLIENTS, *PARTS)
}
