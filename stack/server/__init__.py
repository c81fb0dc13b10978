"""One UDP port for all calls: the endpoint finds the session of each datagram and keeps every deadline."""

from stack.server.deadlines import Deadlines
from stack.server.endpoint import Endpoint, Hosted
from stack.server.routes import Routes
from stack.server.solo import Solo

__all__ = ["Deadlines", "Endpoint", "Hosted", "Routes", "Solo"]
