"""What `stack` and `stack.events` export."""

from __future__ import annotations

import pydoc
import subprocess
import sys
import typing

import pytest

import stack
import stack.events
from stack.voice import events as every

INNER = {"AudioReceived", "SpeakerDrained", "UtterancePiece", "UtteranceDiscarded", "TurnPaused"}
"""Events that a `Call` takes in itself."""


def test_every_name_is_there_and_is_listed() -> None:
    for name in stack.__all__:
        assert getattr(stack, name).__name__ == name
    assert set(stack.__all__) <= set(dir(stack))


def test_completion_and_help_know_them() -> None:
    import rlcompleter

    completer = rlcompleter.Completer({"stack": stack})
    assert completer.complete("stack.Utter", 0) in ("stack.Utterance", "stack.Utterance(")
    text = pydoc.plaintext.document(stack)
    assert "class Utterance" in text
    assert "serve(" in text


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        stack.nothing  # noqa: B018


def test_importing_the_package_loads_nothing_else() -> None:
    code = "import sys, stack; dir(stack); print([name for name in sys.modules if name.startswith('stack.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_event_of_a_call_is_in_one_place() -> None:
    told = {event.__name__ for event in typing.get_args(every.ConversationEvent)} - INNER
    sctp = {name for name in told if getattr(every, name, None) is None}
    missing = told - sctp - set(stack.events.__all__)
    assert missing == set()
    for name in stack.events.__all__:
        assert getattr(stack.events, name).__name__ == name
