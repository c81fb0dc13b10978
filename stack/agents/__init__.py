"""Programs to talk to. An agent gets a `Call` and needs no other package of this stack."""

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
    "echo",
    "http_agent",
    "local_assistant",
]

AGENTS = {"echo": echo, "assistant": assistant, "local": local_assistant}
"""The agents that `python -m stack serve --agent NAME` knows by name."""
