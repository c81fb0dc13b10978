"""How a call is asked for over HTTP: dialects over one `accept(offer) -> answer`, the server, and our client."""

from stack.signaling.app import create_app
from stack.signaling.client import ClientCall, DialError, dial
from stack.signaling.server import ServeConfig, serve, serving
from stack.signaling.service import SignalingConfig

__all__ = ["ClientCall", "DialError", "ServeConfig", "SignalingConfig", "create_app", "dial", "serve", "serving"]
