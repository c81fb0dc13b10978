"""`POST /whip`: an SDP offer in, 201 with the SDP answer out; `DELETE` on its `Location` ends the call (RFC 9725).

The answer holds all our candidates and the client's address is learnt from its first check, so nothing needs to be
trickled. Left out here: PATCH (trickle and restart), which an ice-lite server can do without.
"""

from __future__ import annotations

from aiohttp import web

from stack.signaling.door import Refused, accept, find_call, read_text

routes = web.RouteTableDef()


@routes.post("/whip")
async def post_whip(request: web.Request) -> web.Response:
    """Take an offer as `application/sdp`."""
    if request.content_type != "application/sdp":  # RFC 9725 §4.2
        raise Refused(415, "the offer must come as application/sdp")
    answer, call = await accept(request, await read_text(request))
    return web.Response(
        status=201, text=answer, content_type="application/sdp", headers={"Location": f"/whip/{call.id}"}
    )


@routes.delete("/whip/{call_id}")
async def delete_whip(request: web.Request) -> web.Response:
    """End a call."""
    find_call(request).hang_up()
    return web.Response(status=200)
