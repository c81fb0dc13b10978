"""How a call is asked for over HTTP: dialects over one `accept(offer) -> answer`, the server, and our client."""

from stack.signaling.app import create_app
from stack.signaling.background import RunningServer, running
from stack.signaling.client import ClientCall, DialError, dial
from stack.signaling.config import SignalingConfig
from stack.signaling.server import ServeConfig, serve, serving

__all__ = [
    "ClientCall",
    "DialError",
    "RunningServer",
    "ServeConfig",
    "SignalingConfig",
    "create_app",
    "dial",
    "running",
    "serve",
    "serving",
]
