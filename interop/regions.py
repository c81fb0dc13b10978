"""Where the regions of the simulated world are, how far apart, and how their users reach them.

The round trips are those between the regions East US, West Europe and Southeast Asia of Azure: medians of the 30
days that ended on 19 June 2024, rounded to 5 ms, of both directions where these differ. Source: "Azure network
round-trip latency statistics", https://learn.microsoft.com/azure/networking/azure-network-latency as of 20 June
2024 (MicrosoftDocs/azure-docs, `articles/networking/azure-network-latency.md`).

How users reach their region is an assumption of ours: a line that is good, one that is usual, a telephone on a
mobile network. Jitter is uniform, on each way of each user; a user's datagrams stay in order, and none is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from interop.network_model import Jitter, NetworkModel


@dataclass(frozen=True, slots=True)
class Region:
    """A region and the user in it; `access` is the round trip between both, `jitter` what it has more at most, in
    seconds each; `number` is part of the addresses."""

    name: str
    title: str
    number: int
    access: float
    jitter: float

    @property
    def server(self) -> str:
        """The address of all that runs in the region."""
        return f"10.84.{self.number}.1"

    @property
    def user(self) -> str:
        """The address of its user."""
        return f"10.84.{self.number}.100"


US = Region("us", "East US", 1, 0.010, 0.002)
EU = Region("eu", "West Europe", 2, 0.020, 0.005)
ASIA = Region("asia", "Southeast Asia", 3, 0.050, 0.015)
REGIONS = (US, EU, ASIA)
CENTRE = US
_ROUND_TRIPS = {
    frozenset(("us", "eu")): 0.090,
    frozenset(("us", "asia")): 0.235,
    frozenset(("eu", "asia")): 0.190,
}


def round_trip(one: Region, other: Region) -> float:
    """Return the seconds between two regions, there and back."""
    return 0.0 if one is other else _ROUND_TRIPS[frozenset((one.name, other.name))]


def by_distance(of: Region, regions: Sequence[Region]) -> list[Region]:
    """Return the nearest first, itself before all."""
    return sorted(regions, key=lambda other: round_trip(of, other))


@dataclass(frozen=True, slots=True)
class Machine:
    """One end of the network: a region's servers, or its user."""

    name: str
    region: Region
    is_user: bool

    @property
    def address(self) -> str:
        """Its only one."""
        return self.region.user if self.is_user else self.region.server


def machines(regions: Sequence[Region]) -> list[Machine]:
    """Return the ends of a world of these regions."""
    return [
        Machine(f"{region.name}{'-user' if is_user else ''}", region, is_user)
        for region in regions
        for is_user in (False, True)
    ]


def way(source: Machine, target: Machine) -> NetworkModel:
    """Return the network from one end to another."""
    users = [end.region for end in (source, target) if end.is_user]
    delay = (round_trip(source.region, target.region) + sum(user.access for user in users)) / 2
    jitter = sum(user.jitter for user in users) / 2
    effects: dict[str, Any] = {"jitter": Jitter(jitter)} if jitter else {}
    return NetworkModel(delay=delay, **effects)
