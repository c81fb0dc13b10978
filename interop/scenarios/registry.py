"""The registry of scenarios: a scenario is a few lines that say what has to hold, and which section says so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from interop.evidence import Side
from interop.network_model import NetworkModel
from interop.peers.base import Peer, Wishes
from interop.trial import Trial

Run = Callable[[Trial], Awaitable[None]]
Why = Callable[[Peer, Side], str | None]


def _always(_peer: Peer, _side: Side) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is tried in one call."""

    name: str
    sentence: str
    cites: str
    run: Run
    wishes: Wishes
    seconds: float
    """About how long it takes; it is given up after a minute more."""
    network: NetworkModel | None
    unsupported: Why
    """Why a peer on a side cannot be asked for this; None: it can."""
    calls: int = 1
    """Calls that are made, from one client process or page to one server."""
    is_long: bool = False
    """It runs only when it is named, or with `all`."""
    is_quick: bool = False
    """It is among the few of `quick`."""
    is_alone: bool = False
    """It measures load or time, or makes it: no other cell runs beside it (`--jobs`)."""


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    name: str,
    cites: str,
    *,
    wishes: Wishes | None = None,
    seconds: float = 5.0,
    network: NetworkModel | None = None,
    unsupported: Why = _always,
    calls: int = 1,
    is_long: bool = False,
    is_quick: bool = False,
    is_alone: bool = False,
) -> Callable[[Run], Run]:
    """Register a scenario; its docstring says what has to hold. `ValueError` if the name is taken."""

    def register(run: Run) -> Run:
        if name in SCENARIOS:
            raise ValueError(f"there is a scenario {name!r} already, in {SCENARIOS[name].run.__module__}")
        sentence = " ".join((run.__doc__ or "").split())
        SCENARIOS[name] = Scenario(
            *(name, sentence, cites, run, wishes or Wishes(), seconds, network, unsupported, calls),
            is_long,
            is_quick,
            is_alone,
        )
        return run

    return register


def unless_it_has_data(peer: Peer, _side: Side) -> str | None:
    """There is nothing to be said of the messages of a peer that has none."""
    return None if peer.traits.has_data else f"{peer.name} has no data channels"


def on_the_server_only(what: str) -> Why:
    """A wish that is about what a server answers: a peer that cannot be told is asked as a client only."""

    def why(peer: Peer, side: Side) -> str | None:
        return f"{peer.name} as a server has no way to be told {what}" if side == "server" else None

    return why
