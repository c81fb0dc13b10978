"""Programs to talk to. An agent is handed a `Call` and needs no other room of the house."""

from stack.agents.demo import assistant
from stack.agents.echo import echo

__all__ = ["AGENTS", "assistant", "echo"]

AGENTS = {"echo": echo, "assistant": assistant}
"""The agents that `python -m stack serve --agent NAME` knows by name."""
