"""Random bytes from a seed: what machines get in tests in place of `os.urandom`."""

from __future__ import annotations

from random import Random

from stack.core.machine import Entropy


def entropy(seed: int | str) -> Entropy:
    """Return a source of random bytes, the same ones for the same seed."""
    return Random(seed).randbytes
