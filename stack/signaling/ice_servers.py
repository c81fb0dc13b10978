"""The STUN and TURN servers that clients are told, in every dialect that has a way to say it.

- WHIP and WHEP: `Link` header fields of the answer, and of OPTIONS (RFC 9725 §4.6); OpenAI's calls get the same
  fields, which no client of theirs reads today.
- `/api/offer`: `iceServers` in the answer.
- Pages and programs: `GET /api/ice-servers`, an `RTCConfiguration` as `RTCPeerConnection` takes it.

TURN servers are told with credentials that expire, made for each client from a secret that we share with the
servers (`stack.ice.servers.make_ephemeral_credentials`; coturn: `use-auth-secret`). Who may not call here is told
none.
"""

from __future__ import annotations

import os
import time
from typing import Any

from stack.ice.servers import make_ephemeral_credentials
from stack.signaling.config import SignalingConfig
from stack.signaling.http import HttpRequest, HttpResponse, RouteTable, json_response
from stack.signaling.security import Scope
from stack.signaling.service import SERVICE

USER_BYTES = 6
"""Random bytes in a user name, so that a TURN server counts what each client has."""

routes = RouteTable()


def list_ice_servers(config: SignalingConfig) -> list[dict[str, Any]]:
    """Return the servers as `RTCIceServer` objects, with fresh credentials for the TURN servers."""
    servers: list[dict[str, Any]] = []
    if config.ice_servers:
        servers.append({"urls": list(config.ice_servers)})
    if config.turn_urls:
        expires_at = int(time.time() + config.turn_ttl)
        credentials = make_ephemeral_credentials(config.turn_secret, expires_at, os.urandom(USER_BYTES).hex())
        servers.append(
            {
                "urls": list(config.turn_urls),
                "username": credentials.username,
                "credential": credentials.password,
            }
        )
    return servers


def link_ice_servers(request: HttpRequest, response: HttpResponse) -> None:
    """Add the `Link` header fields; those with credentials only where the client may call."""
    service = request.app[SERVICE]
    principal = service.keys.identify(request.headers.get("Authorization"))
    may_call = principal is not None and Scope.CALL in principal.scopes
    for server in list_ice_servers(service.config):
        secret = ""
        if "credential" in server:
            if not may_call:
                continue
            secret = (
                f'; username="{server["username"]}"; credential="{server["credential"]}"'
                '; credential-type="password"'
            )
        for url in server["urls"]:
            response.headers.add("Link", f'<{url}>; rel="ice-server"{secret}')


@routes.get("/api/ice-servers")
async def get_ice_servers(request: HttpRequest) -> HttpResponse:
    """Return them for a page, which makes its `RTCPeerConnection` with them."""
    service = request.app[SERVICE]
    service.authorise(request, Scope.CALL)
    answer = json_response({"iceServers": list_ice_servers(service.config)})
    answer.headers["Cache-Control"] = "no-store"
    return answer
