"""`POST /api/offer`: `{"sdp": …, "type": "offer"}` in, `{"sdp": …, "type": "answer", "pc_id": …}` out.

The form that aiortc's examples made common, and that Pipecat's SmallWebRTC speaks with `pc_id`, `restart_pc` and
PATCH for candidates that come later; `pc_id` names the call and stays the same over a restart. A further offer
with the `pc_id` of a call that is up is renegotiated. `moved_from` names a call whose machine has said `goaway`,
or from which nothing comes any more, and `avoid` the node that had it then.
`GET /api/offer?pc_id=…` says whether a call is up, and with `late` that its media worker does not answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stack.aio import Call
from stack.aio.tickets import InstantTicket
from stack.core.ufrag import MAX_NODE
from stack.signaling.http import (
    AppKey,
    Application,
    HttpRequest,
    HttpResponse,
    RequestRefused,
    RouteTable,
    json_response,
    read_json,
)
from stack.signaling.ice_servers import list_ice_servers
from stack.signaling.pipecat import RtviSession
from stack.signaling.security import Scope
from stack.signaling.service import SERVICE

MAX_CANDIDATES = 100
MAX_CALL_ID = 64
_RESTARTED: AppKey[dict[str, str]] = AppKey("calls under the pc_id of an earlier one", dict)
routes = RouteTable()


def prepare(app: Application) -> None:
    """Add the routes to an application."""
    app[_RESTARTED] = {}
    app.add_routes(routes)


@routes.post("/api/offer")
async def post_offer(request: HttpRequest) -> HttpResponse:
    """Take an offer as JSON."""
    service = request.app[SERVICE]
    principal = service.authorise(request, Scope.CALL)
    body = await read_json(request)
    sdp, pc_id = _read(body)
    former = _find(request, pc_id) if pc_id is not None else None
    if former is not None and body.get("restart_pc") is not True:
        return await _renegotiate(request, former, sdp, str(pc_id))
    session = {**principal.session, **_session(body)}
    if former is None and "restart_pc" not in body:
        moved_from, avoid = _text(body, "moved_from", MAX_CALL_ID), _text(body, "avoid", MAX_NODE)
        answered = await service.answer(request, principal, sdp, session, moved_from, avoid)
        return _answer(request, answered.answer, answered.call_id, answered.instant)
    taken = await service.accept(request, principal, sdp, session, replaces=former)
    call, name = taken.call, taken.call.id
    if "restart_pc" in body and taken.is_new:
        RtviSession(call)
    if former is not None and pc_id is not None:
        name = pc_id
        service.keep(call.id, request.app[_RESTARTED], name, call.id)
        former.hang_up()
    return _answer(request, taken.answer, name, taken.instant)


def _text(body: Mapping[str, Any], name: str, longest: int) -> str:
    """Return a text that may be there: the call that this one takes the place of, the node to avoid."""
    text = body.get(name, "")
    if not isinstance(text, str) or len(text) > longest:
        raise RequestRefused(400, f"{name} is a text of up to {longest} characters")
    return text


def _answer(request: HttpRequest, sdp: str, name: str, instant: InstantTicket | None = None) -> HttpResponse:
    """Return the answer; with `instant`, the ticket for the client's next call (`stack/web/instant.js`).

    `iceServers` stand in it where there are any, for `RTCPeerConnection.setConfiguration`: they serve an ICE
    restart.
    """
    answer: dict[str, Any] = {"sdp": sdp, "type": "answer", "pc_id": name}
    servers = list_ice_servers(request.app[SERVICE].config)
    if servers:
        answer["iceServers"] = servers
    if instant is not None:
        answer["instant"] = instant.describe()
    return json_response(answer)


@routes.get("/api/offer")
async def get_end(request: HttpRequest) -> HttpResponse:
    """Say whether the call `pc_id` is up, and if it is over, why: a client whose sound has stopped asks.

    The id, which cannot be guessed, is what allows to ask.
    """
    pc_id = request.query.get("pc_id", "")
    service, call_id = request.app[SERVICE], request.app[_RESTARTED].get(pc_id, pc_id)
    reason = service.end_of(call_id)
    if reason is not None:
        return json_response({"state": "ended", "reason": reason.name.lower()})
    if service.host.awaits(call_id):
        return json_response({"state": "awaited"})
    if call_id not in service.host.calls:
        raise RequestRefused(404, "no such call")
    return json_response({"state": "up", **({"late": True} if service.host.is_late(call_id) else {})})


def _read(body: dict[str, Any]) -> tuple[str, str | None]:
    """Return the SDP and the `pc_id`; raises `RequestRefused` for a body that is no offer."""
    sdp, pc_id = body.get("sdp"), body.get("pc_id")
    if not isinstance(sdp, str) or body.get("type", "offer") != "offer":
        raise RequestRefused(400, 'the body must be {"sdp": "…", "type": "offer"}')
    if not isinstance(pc_id, str | None) or not isinstance(body.get("restart_pc"), bool | None):
        raise RequestRefused(400, "pc_id is a text and restart_pc is true or false")
    return sdp, pc_id


def _session(body: dict[str, Any]) -> dict[str, Any]:
    """Return what the client says besides, under whichever name."""
    for name in ("session", "requestData", "request_data"):
        given = body.get(name)
        if given is not None:
            if not isinstance(given, dict):
                raise RequestRefused(400, f"{name} is an object")
            return given
    return {}


async def _renegotiate(request: HttpRequest, call: Call, sdp: str, pc_id: str) -> HttpResponse:
    """Answer a further offer of a connection that is up; where that cannot be, have a new one made."""
    try:
        changed = await request.app[SERVICE].renegotiate(request, call, sdp)
    except RequestRefused as refused:
        if refused.status != 409:
            raise
        # anything but 4xx makes Pipecat's client come again with a new connection
        raise RequestRefused(503, f"{refused.message}; come with restart_pc", **{"Retry-After": "1"}) from refused
    return _answer(request, changed.answer, pc_id)


@routes.patch("/api/offer")
async def patch_offer(request: HttpRequest) -> HttpResponse:
    """Take candidates that came later."""
    body = await read_json(request)
    pc_id, given = body.get("pc_id"), body.get("candidates")
    if not isinstance(pc_id, str) or not isinstance(given, list) or len(given) > MAX_CANDIDATES:
        raise RequestRefused(400, 'the body must be {"pc_id": "…", "candidates": […]}')
    # The end of the candidates is written as null, as {} or as "" (W3C webrtc-pc §4.8.1): nothing follows from it.
    lines = [entry.get("candidate") if isinstance(entry, dict) else entry for entry in given]
    if not all(line is None or isinstance(line, str) for line in lines):
        raise RequestRefused(400, "a candidate is an object with a candidate line")
    call = _find(request, pc_id)
    if call is None:
        raise RequestRefused(404, "no such call")
    await request.app[SERVICE].host.add_remote_candidates(call, [str(line) for line in lines if line])
    return json_response({"status": "success"})


def _find(request: HttpRequest, pc_id: str) -> Call | None:
    """Return the call that goes by this name, if the client may steer it."""
    try:
        return request.app[SERVICE].find_call(request, request.app[_RESTARTED].get(pc_id, pc_id))
    except RequestRefused as refused:
        if refused.status == 404:
            return None
        raise
