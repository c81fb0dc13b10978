"""`POST /api/offer`: `{"sdp": …, "type": "offer"}` in, `{"sdp": …, "type": "answer", "pc_id": …}` out.

The form that aiortc's examples made common; `pc_id` names the call.
"""

from __future__ import annotations

from aiohttp import web

from stack.signaling.door import DOOR, Refused, read_json
from stack.signaling.security import Scope

routes = web.RouteTableDef()


@routes.post("/api/offer")
async def post_offer(request: web.Request) -> web.Response:
    """Take an offer as JSON."""
    door = request.app[DOOR]
    principal = door.admit(request, Scope.CALL)
    body = await read_json(request)
    sdp, kind = body.get("sdp"), body.get("type", "offer")
    if not isinstance(sdp, str) or kind != "offer":
        raise Refused(400, 'the body must be {"sdp": "…", "type": "offer"}')
    session = body.get("session")
    session = {**principal.session, **(session if isinstance(session, dict) else {})}
    answer, call = await door.accept(request, principal, sdp, session)
    return web.json_response({"sdp": answer, "type": "answer", "pc_id": call.id})
