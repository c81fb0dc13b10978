"""Counters of the full agent, and those that it shares with the lite one."""

from __future__ import annotations

from stack.core.counters import declare, declare_each
from stack.stun import ErrorNumber

DROPPED_CLOSED = declare("ice", "dropped_closed", "STUN messages that came after the agent's end")
DROPPED_MALFORMED = declare(
    "ice", "dropped_malformed", "STUN messages that could not be parsed, or lack what they need"
)
ROLE_CONFLICT = declare("ice", "role_conflict", "Role conflicts found in a check (RFC 8445 §7.3.1.1)")
CHECK = declare("ice", "check", "Checks received, authenticated and answered")
FOLLOWED_AFTER_SILENCE = declare(
    "ice", "followed_after_silence", "Changes to another proven path because the selected one fell silent"
)
FOLLOWED_MEDIA = declare(
    "ice",
    "followed_media",
    "Changes to another valid path because the peer's media come there, and nothing elsewhere",
)
DROPPED_ASYMMETRIC_RESPONSE = declare(
    "ice",
    "dropped_asymmetric_response",
    "Responses that came from elsewhere than their check went to (RFC 8445 §7.2.5.2.1)",
)
CHECK_WITHOUT_PAIR = declare(
    "ice", "check_without_pair", "Checks answered that made no pair: the checklist is full"
)
ERROR_RESPONSE_OTHER = declare("ice", "error_response_other", "Error responses with another code, or without any")
ERROR_RESPONSES = {
    int(code): counter
    for code, counter in declare_each(
        "ice", "error_response", ErrorNumber, "Error responses to our checks: {}"
    ).items()
}
PATH_FAILED = declare(
    "ice", "path_failed", "Selected paths on which nothing left any more, by the kernel: other pairs were checked"
)
