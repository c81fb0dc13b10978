"""The command line: `python -m stack`."""


def main() -> None:
    """Run the command line."""
