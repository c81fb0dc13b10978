"""The HTTP application: the page at `/`, and the doors through which an offer comes in.

`POST /api/offer` takes JSON (`offer.py`), `POST /whip` takes plain SDP (`whip.py`); what they share is in
`door.py`. Every answer carries CORS headers, so that a page from elsewhere may call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files

from aiohttp import web

from stack.aio import Host
from stack.signaling import offer, whip
from stack.signaling.door import HOST, MAX_BODY, Refused

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, PATCH, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "authorization, content-type, if-match",
    "Access-Control-Expose-Headers": "location, etag, link",
    "Access-Control-Max-Age": "86400",
}


@web.middleware
async def _doorkeeper(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn refusals into plain JSON errors, answer preflights, and add the CORS headers to everything."""
    if request.method == "OPTIONS":
        return web.Response(status=204, headers=_CORS)
    try:
        response = await handler(request)
    except Refused as refused:
        response = web.json_response({"error": refused.message}, status=refused.status, headers=refused.headers)
    except web.HTTPRequestEntityTooLarge:
        response = web.json_response({"error": f"the body is larger than {MAX_BODY} bytes"}, status=413)
    response.headers.update(_CORS)
    return response


def create_app(host: Host) -> web.Application:
    """Return the application that takes calls for `host`."""
    app = web.Application(middlewares=[_doorkeeper], client_max_size=MAX_BODY)
    app[HOST] = host
    app.add_routes(offer.routes)
    app.add_routes(whip.routes)
    page = files("stack.web")

    async def index(request: web.Request) -> web.StreamResponse:
        return web.Response(
            text=page.joinpath("index.html").read_text("utf-8"),
            content_type="text/html",
            headers={"Cache-Control": "no-cache"},
        )

    async def health(request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok", "calls": len(host.calls)})

    app.router.add_get("/", index)
    app.router.add_get("/healthz", health)
    app.router.add_static("/static/", str(page))
    return app
