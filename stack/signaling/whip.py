"""WHIP (RFC 9725) and WHEP: an SDP offer in, 201 with the whole answer out, and a resource to steer the call by.

    POST   /whip or /whep               201, Location, ETag, Link (ICE servers)          §4.2
    PATCH  Location, If-Match: "etag"   204, candidates that came later                  §4.3.2
    PATCH  Location, If-Match: *        200, ICE restart with new credentials and ETag   §4.3.3
    PATCH  Location, application/sdp    200, the answer to a further offer: beyond the RFC
    DELETE Location                     200                                              §4.2
    OPTIONS                             204, Accept-Post                                 §4.2

WHEP is the same exchange by a client that only receives; it hears a run of the program of its own.

The entity tag stands for the ICE session: the call's id at first, our ufrag after a restart. Where a known client
(eyevinn's) says `ETag` for `If-Match`, or patches an empty body, nothing is lost by understanding it.
Left out: server-sent events of WHEP drafts, and the extensions that no client implements.
"""

from __future__ import annotations

from stack.aio import Call
from stack.core.errors import LocalError, ParseError
from stack.ice import IceCredentials
from stack.sdp import TrickleFragment
from stack.signaling.http import (
    AppKey,
    Application,
    HttpRequest,
    HttpResponse,
    RequestRefused,
    RouteTable,
    location_below,
    read_text,
)
from stack.signaling.ice_servers import link_ice_servers
from stack.signaling.security import Scope
from stack.signaling.service import SERVICE

FRAGMENT = "application/trickle-ice-sdpfrag"
PATCHES = f"{FRAGMENT}, application/sdp"
_TAGS: AppKey[dict[str, str]] = AppKey("whip tags", dict)
routes = RouteTable()


@routes.post("/{endpoint:whip|whep}")
async def post_offer(request: HttpRequest) -> HttpResponse:
    """Take an offer as `application/sdp`."""
    service = request.app[SERVICE]
    principal = service.authorise(request, Scope.CALL)
    if service.config.redirect is not None:  # §4.5: the client repeats its POST there
        there = f"{service.config.redirect.rstrip('/')}/{request.match_info['endpoint']}"
        raise RequestRefused(307, "call there", Location=there)
    if request.content_type != "application/sdp":  # §4.2
        raise RequestRefused(415, "the offer must come as application/sdp", **{"Accept-Post": "application/sdp"})
    taken = await service.answer(request, principal, await read_text(request), principal.session)
    response = HttpResponse(
        status=201,
        text=taken.answer,
        content_type="application/sdp",
        headers={
            "Location": location_below(request, taken.call_id),
            "ETag": _current_tag(request, taken.call_id),
            "Accept-Patch": PATCHES,
        },
    )
    link_ice_servers(request, response)
    return response


@routes.options("/{endpoint:whip|whep}")
async def options(request: HttpRequest) -> HttpResponse:
    """Say what is taken here; a preflight never comes this far."""
    headers = {"Accept-Post": "application/sdp", "Accept-Patch": PATCHES}
    response = HttpResponse(status=204, headers=headers)
    link_ice_servers(request, response)
    return response


@routes.patch("/{endpoint:whip|whep}/{call_id}")
async def patch_session(request: HttpRequest) -> HttpResponse:
    """Trickle, or restart ICE."""
    service = request.app[SERVICE]
    if service.find_awaited(request, request.match_info["call_id"]):
        return await _patch_awaited(request)
    call = service.find_call(request, request.match_info["call_id"])
    if request.content_type not in (FRAGMENT, "application/sdp"):
        raise RequestRefused(415, f"a patch must come as {FRAGMENT}", **{"Accept-Patch": PATCHES})
    wanted = request.headers.get("If-Match") or request.headers.get("ETag")
    if request.content_type == "application/sdp":
        return await _renegotiate(request, call, wanted)
    if not wanted:
        raise RequestRefused(428, "a patch needs If-Match")  # §4.3.1
    try:
        fragment = TrickleFragment.parse(await read_text(request))
    except ParseError as error:
        raise RequestRefused(400, f"not an SDP fragment: {error}") from error
    if wanted == "*":
        return await _restart(request, call, fragment)
    _check_tag(request, call, wanted)
    if fragment.ice_ufrag not in (None, service.remote_ufrag(call)):
        raise RequestRefused(409, "these candidates are of other ICE credentials; a restart says If-Match: *")
    if fragment.candidates:
        await service.host.add_remote_candidates(call, fragment.candidates)
    return HttpResponse(status=204)


async def _patch_awaited(request: HttpRequest) -> HttpResponse:
    """Take candidates of a client whose first packet makes the call: a lite agent needs none of them.

    All but candidates has to wait for the call.
    """
    try:
        fragment = TrickleFragment.parse(await read_text(request))
    except ParseError as error:
        raise RequestRefused(400, f"not an SDP fragment: {error}") from error
    if request.content_type != FRAGMENT or request.headers.get("If-Match") == "*" or not fragment.candidates:
        raise RequestRefused(409, "this call has not begun: its first packet is awaited")
    return HttpResponse(status=204)


@routes.delete("/{endpoint:whip|whep}/{call_id}")
async def delete_session(request: HttpRequest) -> HttpResponse:
    """End a call, or see to it that none comes of an answer."""
    service = request.app[SERVICE]
    if service.find_awaited(request, request.match_info["call_id"]):
        service.host.withdraw(request.match_info["call_id"])
        return HttpResponse(status=200)
    call = service.find_call(request, request.match_info["call_id"])
    call.hang_up()
    return HttpResponse(status=200)


def _check_tag(request: HttpRequest, call: Call, wanted: str) -> None:
    ours = _current_tag(request, call.id)
    if ours not in (wanted, f'"{wanted}"', wanted.removeprefix("W/")):
        raise RequestRefused(412, "that ICE session is over", ETag=ours)


async def _renegotiate(request: HttpRequest, call: Call, wanted: str | None) -> HttpResponse:
    """Answer a further offer: not in RFC 9725, where a session never changes, but pages renegotiate."""
    if wanted not in (None, "", "*"):
        _check_tag(request, call, str(wanted))
    changed = await request.app[SERVICE].renegotiate(request, call, await read_text(request))
    tag = _keep_tag(request, call, changed.ice_ufrag)
    return HttpResponse(status=200, text=changed.answer, content_type="application/sdp", headers={"ETag": tag})


async def _restart(request: HttpRequest, call: Call, fragment: TrickleFragment) -> HttpResponse:
    """§4.3.3. A restart that fails leaves the call as it was."""
    host = request.app[SERVICE].host
    if fragment.ice_ufrag is None or fragment.ice_pwd is None:
        raise RequestRefused(400, "a restart needs new ICE credentials")
    try:
        remote = IceCredentials.parse(fragment.ice_ufrag, fragment.ice_pwd)
        local = await host.restart_ice(call, remote)
        is_lite = (await host.parameters(call)).local.ice_lite
        await host.add_remote_candidates(call, fragment.candidates)
    except ParseError as error:
        raise RequestRefused(400, str(error)) from error
    except LocalError as error:
        raise RequestRefused(404, str(error)) from error
    request.app[SERVICE].note_restart(call, remote.ufrag)
    tag = _keep_tag(request, call, local.ufrag)
    candidates = host.candidates_of(call, is_lite)
    answer = TrickleFragment(local.ufrag, local.password, candidates, is_lite, fragment.mid or "0")
    return HttpResponse(status=200, text=answer.serialize(), content_type=FRAGMENT, headers={"ETag": tag})


def _tag(ufrag: str) -> str:
    return f'"{ufrag}"'


def _current_tag(request: HttpRequest, call_id: str) -> str:
    return _tags(request).get(call_id, _tag(call_id))


def _keep_tag(request: HttpRequest, call: Call, ufrag: str) -> str:
    """Return the entity tag of the ICE session that runs from now on."""
    tag = _tag(ufrag)
    request.app[SERVICE].keep(call.id, _tags(request), call.id, tag)
    return tag


def _tags(request: HttpRequest) -> dict[str, str]:
    """The entity tags of calls that restarted ICE; the others' follow from their identifier."""
    return request.app[_TAGS]


def prepare(app: Application) -> None:
    """Add the routes to an application."""
    app[_TAGS] = {}
    app.add_routes(routes)
