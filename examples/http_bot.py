"""A bot out of HTTP servers with OpenAI's protocol: it speaks while it writes, and may be interrupted.

`pip install 'voice-stack[http]'`, then
Hosted: OPENAI_API_KEY=… python examples/http_bot.py https://api.openai.com gpt-4o-mini
Your own: python examples/http_bot.py http://127.0.0.1:11434 llama3.2 http://127.0.0.1:8000 (hears and speaks)
"""

import os
import sys
from datetime import datetime
from typing import Literal

from stack import serve
from stack.agents.http import HttpAgent, HttpAgentConfig, http_agent

ROOMS: dict[str, bool] = {}


def clock() -> str:
    """The time of day."""
    return datetime.now().strftime("%H:%M")


async def light(room: Literal["kitchen", "hall"], on: bool) -> dict[str, bool]:
    """Switch the light of a room on or off, and say which rooms are lit."""
    ROOMS[room] = on
    return ROOMS


def make(llm: str, model: str | None = None, speech: str | None = None) -> HttpAgent:
    """Return the bot; `speech` is the server that hears and speaks, if it is another one."""
    config = HttpAgentConfig(
        llm,
        stt=speech,
        tts=speech,
        llm_model=model,
        llm_key=os.environ.get("OPENAI_API_KEY", ""),
        instructions="You are the voice of a house. Answer in one or two short sentences.",
        greeting="Hello, this is your house.",
        tools=(clock, light),
    )
    return http_agent(config)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    serve(make(*sys.argv[1:4]))
