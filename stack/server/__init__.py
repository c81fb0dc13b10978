"""One UDP port for all calls: the endpoint finds the session of each datagram and keeps every deadline."""

from stack.server.admission import Admitted, TicketAdmission
from stack.server.deadlines import Deadlines
from stack.server.endpoint import Endpoint, HostedMachine, UnknownCheck, may_be_of_a_moved_client
from stack.server.gathering import Gathered, GatheringEndpoint
from stack.server.routes import PathChange, Routes
from stack.server.single import SingleEndpoint

__all__ = [
    "Admitted",
    "Deadlines",
    "Endpoint",
    "Gathered",
    "GatheringEndpoint",
    "HostedMachine",
    "PathChange",
    "Routes",
    "SingleEndpoint",
    "TicketAdmission",
    "UnknownCheck",
    "may_be_of_a_moved_client",
]
