"""Inside a FastAPI application: the page and all dialects are under /voice, for its users alone.

`pip install fastapi uvicorn`, then `TOKENS=ada=secret uvicorn examples.in_fastapi:app`
"""

import os
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException
from starlette.requests import HTTPConnection

from stack import Call, HostConfig
from stack.asgi import VoiceApp

USERS = {token: user for user, _, token in (each.partition("=") for each in os.environ.get("TOKENS", "").split())}
"""Who bears which token; a real application has a session, a database, an identity provider."""


async def current_user(
    connection: HTTPConnection, authorization: Annotated[str, Header()] = "", token: str = ""
) -> str:
    """Return the user; a browser that opens the page brings the token in the query, or in a cookie of yours."""
    user = USERS.get(authorization.removeprefix("Bearer ") or token)
    if user is None:
        raise HTTPException(401, "this is for our users")
    connection.state.user = user
    return user


async def echo(call: Call) -> None:
    """Say back what the user says; the program knows who that is."""
    print(f"{call.context.state['user']} is on the line", flush=True)
    async for frame in call.microphone:
        call.speaker.write(frame)


voice = VoiceApp(echo, config=HostConfig(udp_port=int(os.environ.get("UDP_PORT", "3478"))))
app = FastAPI(lifespan=voice.lifespan)
app.include_router(voice.router(), prefix="/voice", dependencies=[Depends(current_user)])


@app.get("/")
async def index() -> dict[str, int]:
    """The rest of the application."""
    return {"calls": len(voice.host.calls)}
