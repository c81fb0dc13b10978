"""A program that takes long to prepare."""

import threading


def program(call: object) -> None:
    """Nothing."""


def _prepare() -> None:
    print("loading", flush=True)
    threading.Event().wait(60)


program.prepare = _prepare  # type: ignore[attr-defined]
