"""What the report of a call says of its path: which pair of candidates it was, and why that one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stack.aio.client_media import IceReport, PairReport
from stack.ice.gathering import TransportPolicy
from stack.ice.servers import IceServer

MAX_NAMED = 5
"""Pairs that are named as having been tried in vain."""


def describe_ice(report: IceReport, policy: TransportPolicy) -> dict[str, Any]:
    """Return the part of the report. `pair` is None if there was no path at its end."""
    selected = next((pair for pair in report.pairs if pair.selected), None)
    return {
        "pair": None if selected is None else _pair(selected),
        "why": _why(report.pairs, selected, policy),
        "servers": [
            {"server": str(outcome.server.server), "from": outcome.base.host, "result": outcome.text}
            for outcome in report.outcomes
        ],
    }


def explain_servers(report: IceReport, servers: Sequence[IceServer]) -> str:
    """Return what each server that was asked has answered, in one line."""
    answered = {str(outcome.server.server) for outcome in report.outcomes}
    said = [f"{outcome.server.server}: {outcome.text}" for outcome in report.outcomes]
    said += [f"{server}: no answer" for server in servers if str(server) not in answered]
    return "; ".join(dict.fromkeys(said))


def explain_pairs(report: IceReport) -> str:
    """Return how far a call came that did not connect, in one line; empty if nothing was tried."""
    answered = [pair for pair in report.pairs if pair.state == "succeeded"]
    if answered:
        return f"{answered[0].remote} answers by {answered[0].protocol}, and the handshake did not come to its end"
    tried = list(dict.fromkeys(f"{pair.remote} by {pair.protocol}" for pair in report.pairs))
    if not tried:
        return ""
    more = f" and {len(tried) - MAX_NAMED} more" if len(tried) > MAX_NAMED else ""
    return (
        f"nothing came back from {', '.join(tried[:MAX_NAMED])}{more}, which the server says it listens on "
        "(a closed port, or an address that cannot be reached from here: --public-ip of the server)"
    )


def _pair(pair: PairReport) -> dict[str, Any]:
    return {
        "local": pair.local,
        "local_type": pair.local_type,
        "remote": pair.remote,
        "remote_type": pair.remote_type,
        "protocol": pair.protocol,
        "relay": pair.relay or None,
    }


def _why(pairs: Sequence[PairReport], selected: PairReport | None, policy: TransportPolicy) -> str:
    if selected is None:
        return "no pair was selected"
    allowed = "" if policy is TransportPolicy.ALL else f", of those that --ice-transport {policy.value} allows"
    better = [pair for pair in pairs[: pairs.index(selected)] if pair.state != "succeeded"]
    if better:
        named = "; ".join(_in_words(pair) for pair in better[:MAX_NAMED])
        more = f"; and {len(better) - MAX_NAMED} more" if len(better) > MAX_NAMED else ""
        return f"it answered, and better ones had not{allowed}: {named}{more}"
    others = len(pairs) - 1
    return f"the best of {others + 1} pairs{allowed}" if others else f"the only pair that was checked{allowed}"


def _in_words(pair: PairReport) -> str:
    return f"{pair.local_type} {pair.local} to {pair.remote} by {pair.protocol} ({pair.state})"


def render_ice(ice: dict[str, Any]) -> list[str]:
    """Return the part of the report as text for people."""
    pair, lines = ice["pair"], []
    if pair is not None:
        relay = f" through {pair['relay']}" if pair["relay"] else ""
        kinds = f"{pair['local_type']} to {pair['remote_type']} by {pair['protocol']}{relay}"
        lines.append(f"  ICE     {kinds}: {ice['why']}")
    lines += [f"          {each['server']} from {each['from']}: {each['result']}" for each in ice["servers"]]
    return lines
