"""`python -m interop.peers.clients`: install and bundle the clients from npm."""

from interop.peers.clients import build

print(build())
