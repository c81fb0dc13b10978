"""An agent whose recogniser, language model and voice are servers that speak OpenAI's HTTP protocol.

`config.py`: where they are; `services.py`: the requests, bounded in time; `tools.py`: Python functions that the
model may call; `answer.py`: an answer in the making; `thoughts.py`: what of it is not said; `agent.py`: the
conversation. `openai`, the client library, is imported when the agent is used (extra `http`).
"""

from stack.agents.http.agent import HttpAgent, http_agent
from stack.agents.http.config import HttpAgentConfig, Patience
from stack.agents.http.services import ServiceFailed

__all__ = ["HttpAgent", "HttpAgentConfig", "Patience", "ServiceFailed", "http_agent"]
