"""The HTTP application: the page at `/`, and the endpoints that take an offer.

| Endpoint | Dialect |
|---|---|
| `/api/offer` | plain JSON, and Pipecat's SmallWebRTC (`offer.py`, `pipecat.py`) |
| `/whip`, `/whep` | RFC 9725 and its sister for listening (`whip.py`) |
| `/v1/realtime/…` | OpenAI Realtime (`realtime.py`) |
| `/healthz`, `/livez`, `/readyz`, `/drain`, `/metrics` | for the operator and its monitoring |

What the dialects share is in `service.py`. Every answer carries the CORS headers that its origin is entitled to.
"""

from __future__ import annotations

import re

from aiohttp import web

from stack.aio import Host
from stack.signaling import offer, realtime, whip
from stack.signaling.aiohttp_face import serve_by_aiohttp
from stack.signaling.http import (
    Answer,
    Application,
    Handler,
    HttpRequest,
    HttpResponse,
    RequestRefused,
    RouteTable,
    json_response,
)
from stack.signaling.ice_servers import routes as ice_server_routes
from stack.signaling.metrics import CONTENT_TYPE
from stack.signaling.security import Scope, allows
from stack.signaling.service import (
    SERVICE,
    SignalingConfig,
    SignalingService,
    check_origin,
    seen_through_proxies,
)
from stack.web import assets

_CORS = {
    "Access-Control-Allow-Methods": "GET, POST, PATCH, DELETE, OPTIONS",
    "Access-Control-Expose-Headers": (
        "location, etag, link, accept-patch, retry-after, access-control-allow-methods"
    ),
    "Access-Control-Max-Age": "86400",
}
_PAGE_HEADERS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
_ERROR_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error", 503: "server_error"}
_COMMON_HEADERS = "authorization, content-type, if-match, etag"
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token (RFC 9110 §5.6.2)
_ASKED = "Access-Control-Request-Headers"


routes = RouteTable()


def _cors(request: HttpRequest) -> dict[str, str]:
    """Return the CORS headers for this request: none but `Vary` for an origin that is not on the list.

    A page that may call at all may send what header fields it likes: the ones that a preflight names are repeated,
    as "*" would leave out `Authorization` (Fetch §4.8). We act on none that we do not know.
    """
    origins = request.app[SERVICE].config.origins
    origin = request.headers.get("Origin")
    asked = request.headers.get(_ASKED)
    if "*" in origins:
        headers = {"Access-Control-Allow-Origin": "*", **_CORS}
        varies = []
    elif origin is not None and allows(origins, origin):
        headers = {"Access-Control-Allow-Origin": origin, **_CORS}
        varies = ["Origin"]
    else:
        return {"Vary": "Origin"}
    if asked is not None:
        names = (name.strip() for name in asked.split(","))
        headers["Access-Control-Allow-Headers"] = ", ".join(name for name in names if _FIELD_NAME.fullmatch(name))
        varies.append(_ASKED)
    else:
        headers["Access-Control-Allow-Headers"] = _COMMON_HEADERS
    if varies:
        headers["Vary"] = ", ".join(varies)
    return headers


def _refusal(request: HttpRequest, refused: RequestRefused) -> HttpResponse:
    request.app[SERVICE].metrics.refused(refused.status)
    if "/v1/realtime" in request.path:  # below a prefix, too, where an application has mounted this one
        kind = _ERROR_TYPES.get(refused.status, "invalid_request_error")
        error: object = {
            "message": refused.message, "type": kind, "code": refused.code, "param": refused.param
        }  # fmt: skip
    else:
        error = refused.message
    return json_response({"error": error}, status=refused.status, headers=refused.headers)


async def _answer_errors(request: HttpRequest, handler: Handler) -> Answer:
    """Refuse strange origins, turn refusals into JSON errors, answer preflights, and add the CORS headers."""
    answer: Answer
    request = seen_through_proxies(request)
    try:
        check_origin(request)
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            answer = HttpResponse(status=204)
        else:
            answer = await handler(request)
    except RequestRefused as refused:
        answer = _refusal(request, refused)
    if isinstance(answer, HttpResponse):
        answer.headers.update(_cors(request))
    return answer


def create_application(
    host: Host, config: SignalingConfig | None = None, *, program_passes_events: bool = False
) -> Application:
    """Return what takes calls for `host`; a face serves it: `aiohttp_face.py`, `stack.asgi`.

    `program_passes_events`: the program itself speaks OpenAI's protocol on the channel `oai-events`.
    """
    service = SignalingService(host, config)
    app = Application(max_body=service.config.max_body, around=_answer_errors)
    app[SERVICE] = service
    offer.prepare(app)
    whip.prepare(app)
    realtime.prepare(app, program_passes_events=program_passes_events)
    app.add_routes(ice_server_routes)
    app.add_routes(routes)
    _add_page(app)
    return app


def create_app(
    host: Host, config: SignalingConfig | None = None, *, program_passes_events: bool = False
) -> web.Application:
    """Return the same as an application of aiohttp, alone or below a prefix (`add_subapp`)."""
    return serve_by_aiohttp(create_application(host, config, program_passes_events=program_passes_events))


def _add_page(app: Application) -> None:
    page = assets()
    files = RouteTable()

    @files.get("/")
    @files.get("/static/{name}")
    async def asset(request: HttpRequest) -> HttpResponse:
        found = page.get(request.match_info.get("name", "index.html"))
        if found is None:
            raise RequestRefused(404, "Not Found")
        return HttpResponse(body=found.data, headers={"Content-Type": found.media_type, **_PAGE_HEADERS})

    app.add_routes(files)


@routes.get("/healthz")
@routes.get("/livez")
async def _health(request: HttpRequest) -> HttpResponse:
    """The process is alive."""
    return json_response({"status": "ok", "calls": len(request.app[SERVICE].host.calls)})


@routes.get("/readyz")
async def _ready(request: HttpRequest) -> HttpResponse:
    """New calls are welcome."""
    service = request.app[SERVICE]
    full = len(service.host.calls) >= service.host.config.max_calls
    welcome, surroundings = service.describe_readiness()
    draining = service.draining or service.drain_asked.is_set()
    status = "draining" if draining else "full" if full else "ready" if welcome else "unready"
    return json_response({"status": status, **surroundings}, status=200 if status == "ready" else 503)


@routes.post("/drain")
async def _drain(request: HttpRequest) -> HttpResponse:
    """End as after SIGTERM: no new calls, and those that are up may end by themselves."""
    service = request.app[SERVICE]
    service.authorise(request, Scope.CONTROL)
    service.drain_asked.set()
    return json_response({"status": "draining", "calls": len(service.host.calls)}, status=202)


@routes.get("/metrics")
async def _metrics(request: HttpRequest) -> HttpResponse:
    service = request.app[SERVICE]
    service.authorise(request, Scope.METRICS)
    return HttpResponse(body=await service.metrics.render(), headers={"Content-Type": CONTENT_TYPE})
