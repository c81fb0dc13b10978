"""Inside a FastAPI application: the page and all dialects are under /voice, for its users alone.

`pip install fastapi 'uvicorn[standard]'` (with what WebSockets need), then
`TOKENS=ada=secret uvicorn examples.in_fastapi:app` and, in a browser, http://127.0.0.1:8000/login?token=secret
"""

import os
from typing import Annotated

from fastapi import Cookie, Depends, FastAPI, Header, HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse

from stack import Call, HostConfig
from stack.asgi import VoiceApp

USERS = {token: user for user, _, token in (each.partition("=") for each in os.environ.get("TOKENS", "").split())}
"""Who bears which token; a real application has a session, a database, an identity provider."""


async def current_user(
    connection: HTTPConnection, authorization: Annotated[str, Header()] = "", token: Annotated[str, Cookie()] = ""
) -> str:
    """Return the user; a program brings the token in a header, a browser in a cookie."""
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


@app.get("/login")
async def login(token: str) -> RedirectResponse:
    """Give the browser its cookie and lead it to the page; a real application has a form for that."""
    if token not in USERS:
        raise HTTPException(401, "this is for our users")
    answer = RedirectResponse("voice/")
    answer.set_cookie("token", token, httponly=True, samesite="strict")  # and secure=True behind HTTPS
    return answer


@app.get("/")
async def index() -> dict[str, int]:
    """The rest of the application."""
    return {"calls": len(voice.host.calls)}
