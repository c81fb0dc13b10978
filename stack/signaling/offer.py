"""`POST /api/offer`: `{"sdp": …, "type": "offer"}` in, `{"sdp": …, "type": "answer", "pc_id": …}` out.

The form that aiortc's examples made common; `pc_id` names the call.
"""

from __future__ import annotations

from aiohttp import web

from stack.signaling.door import Refused, accept, read_json

routes = web.RouteTableDef()


@routes.post("/api/offer")
async def post_offer(request: web.Request) -> web.Response:
    """Take an offer as JSON."""
    body = await read_json(request)
    sdp, kind = body.get("sdp"), body.get("type", "offer")
    if not isinstance(sdp, str) or kind != "offer":
        raise Refused(400, 'the body must be {"sdp": "…", "type": "offer"}')
    session = body.get("session")
    answer, call = await accept(request, sdp, session if isinstance(session, dict) else None)
    return web.json_response({"sdp": answer, "type": "answer", "pc_id": call.id})
