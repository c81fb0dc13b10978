"""Says everything back: `python examples/echo.py`, then open the page and speak."""

from stack import Call, serve


async def echo(call: Call) -> None:
    """Send every frame back as it comes."""
    async for frame in call.microphone:
        call.speaker.write(frame)


if __name__ == "__main__":
    serve(echo)
