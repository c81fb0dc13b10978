"""What is no program."""

NUMBER = 5


def noargs() -> None:
    """Takes nothing."""
