"""Programs to talk to. An agent is handed a `Call` and needs no other room of the house."""

from stack.agents.bridge import BridgeConfig, Format, bridge
from stack.agents.demo import assistant
from stack.agents.echo import echo
from stack.agents.local import local_assistant

__all__ = ["AGENTS", "BridgeConfig", "Format", "assistant", "bridge", "echo", "local_assistant"]

AGENTS = {"echo": echo, "assistant": assistant, "local": local_assistant}
"""The agents that `python -m stack serve --agent NAME` knows by name."""
