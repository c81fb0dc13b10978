"""What a reasoning model thinks aloud is kept apart from what it says."""

from __future__ import annotations


class Thoughts:
    """Leaves out what a reasoning model thinks aloud: `<think> … </think>` before its answer."""

    BEGIN, END = "<think>", "</think>"

    def __init__(self) -> None:
        self._held = ""
        self._thinking: bool | None = None

    def without(self, piece: str) -> str:
        """Return what of the next piece is meant to be said."""
        if self._thinking is False:
            return piece
        self._held += piece
        if self._thinking is None:
            begun = self._held.lstrip()
            if self.BEGIN.startswith(begun):
                return ""  # too short to tell
            self._thinking = begun.startswith(self.BEGIN)
            if not self._thinking:
                return self._held
        before, end, answer = self._held.rpartition(self.END)
        if not end:
            self._held = self._held[-len(self.END) :] if self._thinking else before
            return ""
        self._thinking = False
        return answer.lstrip()
