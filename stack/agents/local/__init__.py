"""An assistant for free speech that runs offline: Whisper recognises, a small language model answers, Piper
speaks.

`agent.py` is the program, `draft.py` one answer, `text.py` its words, `worker.py` and `models.py` the two ends of
the pipe to the process in which the models are. Of the extra `local` nothing is imported outside that process.
"""

from stack.agents.local.agent import local_assistant

__all__ = ["local_assistant"]
