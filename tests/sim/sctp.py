"""Two ends of an SCTP association, with or without data channels, and the network between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from interop.network_model import NetworkModel
from stack.core.machine import Path
from stack.sctp import DataChannels, SctpConfig
from stack.sctp.association import Association
from tests.sim.entropy import entropy
from tests.sim.network import Host
from tests.sim.pair import TunnelPair, unordered

End = DataChannels | Association


class SctpPair(TunnelPair[Any]):
    """`a` (`left`, index 0) is the DTLS client, `b` (`right`, index 1) the server."""

    def __init__(self, a: End, b: End, model: NetworkModel | None = None, seed: int = 1) -> None:
        super().__init__(a, b, model or unordered(), seed=seed)
        self.events = self.left.events, self.right.events
        self.wire: list[tuple[int, bytes]] = []
        """Who sent which packet (the sender's index): everything that was sent."""
        self.drop: Callable[[int, bytes], bool] | None = None
        """Whether a packet of the sender with this index is lost."""
        self.network.filter = self._pass

    @property
    def a(self) -> Any:
        return self.left.machine.tunnel

    @property
    def b(self) -> Any:
        return self.right.machine.tunnel

    @property
    def ends(self) -> tuple[Any, Any]:
        return self.a, self.b

    def of(self, index: int, kind: type[Any]) -> list[Any]:
        """Return the events of a kind that one end has reported."""
        return (self.left, self.right)[index].seen(kind)

    def run_until(self, condition: Callable[[], Any], seconds: float = 60.0) -> None:
        """Run until the condition holds; fail if it does not within so many seconds."""
        assert self.run(seconds, lambda: bool(condition())), "the condition did not come true"

    def _pass(self, sender: Host[Any], data: bytes, path: Path) -> bytes | None:
        index = 0 if sender is self.left else 1
        self.wire.append((index, data))
        return None if self.drop is not None and self.drop(index, data) else data


def make_pair(
    model: NetworkModel | None = None,
    seed: int = 1,
    up: bool = True,
    a: dict[str, Any] | None = None,
    b: dict[str, Any] | None = None,
    **config: Any,
) -> SctpPair:
    """Return two ends with data channels; set up unless `up` is False. `a` and `b` are settings of one end."""
    ends = [
        DataChannels(SctpConfig(is_dtls_client=index == 0, **config, **(own or {})), entropy(seed * 2 + index))
        for index, own in enumerate((a, b))
    ]
    pair = SctpPair(*ends, model, seed)
    if up:
        pair.a.start(pair.now)
        pair.b.start(pair.now)
        pair.run_until(lambda: pair.events[0] and pair.events[1])
    return pair


def make_associations(
    model: NetworkModel | None = None, seed: int = 1, up: bool = True, **config: Any
) -> SctpPair:
    """Return two associations without channels."""
    ends = [
        Association(SctpConfig(is_dtls_client=index == 0, **config), entropy(seed * 2 + index)) for index in (0, 1)
    ]
    pair = SctpPair(*ends, model, seed)
    if up:
        pair.a.start(pair.now)
        pair.run_until(lambda: pair.events[0] and pair.events[1])
    return pair
