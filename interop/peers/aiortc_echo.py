"""An echo server on aiortc: the baseline. `python -m interop.peers.aiortc_echo --port P`.

It speaks the dialect of our own server, `POST /api/offer` with `{sdp, type}` both ways, so that one page measures
both. Sound comes back through aiortc's own track, decoded and encoded, which is how its users echo; a message on a
data channel comes back as it is.
"""

from __future__ import annotations

import argparse

import aioice.ice
from aiohttp import web
from aiortc import RTCConfiguration, RTCDataChannel, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamTrack

_peers = web.AppKey("peers", set[RTCPeerConnection])


async def offer(request: web.Request) -> web.Response:
    """Answer an offer whose candidates are all in it: aiortc fails at once when there are none."""
    body = await request.json()
    # Without this it would ask a STUN server of its own choice, and wait for it.
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    request.app[_peers].add(peer)

    @peer.on("track")
    def on_track(track: MediaStreamTrack) -> None:
        if track.kind == "audio":
            peer.addTrack(track)

    @peer.on("datachannel")
    def on_channel(channel: RTCDataChannel) -> None:
        channel.on("message", channel.send)

    @peer.on("connectionstatechange")
    async def on_state() -> None:
        if peer.connectionState in ("failed", "closed"):
            request.app[_peers].discard(peer)
            await peer.close()

    await peer.setRemoteDescription(RTCSessionDescription(body["sdp"], body["type"]))
    await peer.setLocalDescription(await peer.createAnswer())
    return web.json_response({"sdp": peer.localDescription.sdp, "type": peer.localDescription.type})


async def alive(_request: web.Request) -> web.Response:
    """Say that the server has started."""
    return web.Response(text="aiortc echo\n")


async def close_all(app: web.Application) -> None:
    """End every call."""
    for peer in list(app[_peers]):
        await peer.close()


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--media-host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8090)
    options = parser.parse_args()
    # aioice leaves loopback out of its candidates; here there may be nothing else.
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: [options.media_host]
    app = web.Application()
    app[_peers] = set()
    app.router.add_get("/", alive)
    app.router.add_post("/api/offer", offer)
    app.on_shutdown.append(close_all)
    web.run_app(app, host=options.host, port=options.port, print=None)


if __name__ == "__main__":
    main()
