"""The relay: one UDP port in front of media nodes that clients do not reach. Docs: `docs/scale.md`.

- `machine`: which datagram goes where, without sockets or clock;
- `flow_file`: the flows in a memory-mapped file, so that a relay which was killed goes on where it was;
- `edge`: the sockets and the loop; `status`: `/metrics`, `/livez`, `/readyz`; `node_list`: which nodes there are;
- `command`: the options.

It has no key: it reads the node part of a username fragment (`stack.core.ufrag`) and forwards what it cannot
read. It imports little, and neither asyncio nor anything of NATS: its start is what callers hear when it dies.
"""
