"""A module that takes long to import."""

import threading

print("loading", flush=True)
threading.Event().wait(60)


def program(call: object) -> None:
    """Nothing."""
