"""A script that serves beside what it does, also when it is imported."""

from stack import Call, running


async def echo(call: Call) -> None:
    """Answer nothing."""


running(echo, port=0, udp_port=0)
