"""`--list`: what can be tried here."""

from __future__ import annotations

from collections.abc import Iterable

import click

from interop.peers.base import Peer
from interop.scenarios import Scenario


def print_list(peers: Iterable[Peer], scenarios: Iterable[Scenario]) -> None:
    """Print each peer with its sides, its version or why it is absent, and each scenario with what it cites."""
    click.echo("Peers")
    absent = []
    for peer in peers:
        why = peer.why_absent()
        state = peer.version() or "is there"
        if why is not None:
            absent.append(peer.name)
            how = "`python -m interop setup`" if peer.needs.setup else peer.needs.what
            state = f"absent: {why} ({how})"
        click.echo(f"  {peer.name:24} {', '.join(peer.sides):16} {state}")
    click.echo("\nScenarios")
    for scenario in scenarios:
        click.echo(f"  {scenario.name:24} {scenario.sentence}")
        click.echo(f"  {'':24} {scenario.cites}")
    if absent:
        click.echo(f"\n{len(absent)} peers are absent here: {', '.join(absent)}")
