"""`POST /api/offer`: `{"sdp": …, "type": "offer"}` in, `{"sdp": …, "type": "answer", "pc_id": …}` out.

The form that aiortc's examples made common, and that Pipecat's SmallWebRTC speaks with `pc_id`, `restart_pc` and
PATCH for candidates that come later; `pc_id` names the call and stays the same over a restart.
"""

from __future__ import annotations

from aiohttp import web

from stack.aio import Call
from stack.signaling.door import DOOR, Refused, read_json
from stack.signaling.pipecat import PipecatLine
from stack.signaling.security import Scope

MAX_CANDIDATES = 100
_RESTARTED: web.AppKey[dict[str, str]] = web.AppKey("calls under the pc_id of an earlier one", dict)
routes = web.RouteTableDef()


def prepare(app: web.Application) -> None:
    """Add the door to an application."""
    app[_RESTARTED] = {}
    app.add_routes(routes)


@routes.post("/api/offer")
async def post_offer(request: web.Request) -> web.Response:
    """Take an offer as JSON."""
    door = request.app[DOOR]
    principal = door.admit(request, Scope.CALL)
    body = await read_json(request)
    sdp, kind, pc_id = body.get("sdp"), body.get("type", "offer"), body.get("pc_id")
    if not isinstance(sdp, str) or kind != "offer":
        raise Refused(400, 'the body must be {"sdp": "…", "type": "offer"}')
    former = _find(request, pc_id) if isinstance(pc_id, str) else None
    if former is not None and body.get("restart_pc") is not True:
        raise Refused(503, "a new connection is needed: restart_pc", **{"Retry-After": "1"})
    session = body.get("session", body.get("requestData"))
    session = {**principal.session, **(session if isinstance(session, dict) else {})}
    answer, call = await door.accept(request, principal, sdp, session)
    if "restart_pc" in body:
        PipecatLine(call)
    name = call.id
    if former is not None and isinstance(pc_id, str):
        name = pc_id
        restarted = request.app[_RESTARTED]
        for gone in [key for key, value in restarted.items() if value not in door.host.calls]:
            del restarted[gone]
        restarted[name] = call.id
        former.hang_up()
    return web.json_response({"sdp": answer, "type": "answer", "pc_id": name})


@routes.patch("/api/offer")
async def patch_offer(request: web.Request) -> web.Response:
    """Take candidates that came later."""
    body = await read_json(request)
    pc_id, given = body.get("pc_id"), body.get("candidates")
    if not isinstance(pc_id, str) or not isinstance(given, list) or len(given) > MAX_CANDIDATES:
        raise Refused(400, 'the body must be {"pc_id": "…", "candidates": […]}')
    # The end of the candidates is written as null, as {} or as "" (W3C webrtc-pc §4.8.1): nothing follows from it.
    lines = [entry.get("candidate") if isinstance(entry, dict) else entry for entry in given]
    if not all(line is None or isinstance(line, str) for line in lines):
        raise Refused(400, "a candidate is an object with a candidate line")
    call = _find(request, pc_id)
    if call is None:
        raise Refused(404, "no such call")
    await request.app[DOOR].host.add_remote_candidates(call, [str(line) for line in lines if line])
    return web.json_response({"status": "success"})


def _find(request: web.Request, pc_id: str) -> Call | None:
    """Return the call that goes by this name, if the asker may steer it."""
    try:
        return request.app[DOOR].find_call(request, request.app[_RESTARTED].get(pc_id, pc_id))
    except Refused as refused:
        if refused.status == 404:
            return None
        raise
