"""Programs to talk to. An agent gets a `Call` and needs no other package of this stack."""

from importlib.util import find_spec

from stack.agents.bridge import AudioFormat, BridgeConfig, bridge
from stack.agents.demo import assistant
from stack.agents.echo import echo
from stack.agents.http import HttpAgentConfig, http_agent
from stack.agents.local import local_assistant

__all__ = [
    "AGENTS",
    "AudioFormat",
    "BridgeConfig",
    "HttpAgentConfig",
    "assistant",
    "bridge",
    "default_agent",
    "echo",
    "http_agent",
    "local_assistant",
]

AGENTS = {"echo": echo, "assistant": assistant, "local": local_assistant}
"""The agents that `python -m stack serve --agent NAME` knows by name."""


def default_agent() -> str:
    """Return the agent that answers where none is named: the assistant, where its extra is installed."""
    return "assistant" if all(find_spec(name) for name in ("pocketsphinx", "espeakng_loader")) else "echo"
