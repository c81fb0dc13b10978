"""Programs to talk to. An agent is handed a `Call` and needs no other room of the house."""

from stack.agents.echo import echo

__all__ = ["AGENTS", "echo"]

AGENTS = {"echo": echo}
"""The agents that `python -m stack serve --agent NAME` knows by name."""
