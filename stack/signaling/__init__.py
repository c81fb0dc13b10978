"""How a call is asked for over HTTP: dialects over one `accept(offer) -> answer`, the server, and our client."""

from stack.signaling.app import create_app
from stack.signaling.client import ClientCall, DialError, dial
from stack.signaling.door import DoorConfig
from stack.signaling.server import ServeConfig, serve, serving

__all__ = ["ClientCall", "DialError", "DoorConfig", "ServeConfig", "create_app", "dial", "serve", "serving"]
