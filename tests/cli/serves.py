"""A program as the README shows one: it serves when it is run, and when it is imported."""

from stack import Call, serve


async def echo(call: Call) -> None:
    """Answer nothing."""


serve(echo, port=0, udp_port=0)
