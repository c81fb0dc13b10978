"""Several machines: calls whose media are on one and whose program is on another, joined by NATS.

`messages.py` has what crosses, `ordered.py` brings it in order over what may lose it, `backbone.py` is the
connection to NATS, `nodes.py` which media nodes there are. `remote_program.py` is the media node's side of its
calls and `remote_call.py` of one, `program_host.py` the program's; `signaling_host.py` answers for all nodes;
`roles.py` composes them.
docs/scale.md says how it is run, docs/decisions/0026 why it is so. Left out: a cluster of our own; choosing the
nearest program, failover, TLS and accounts are the engine's.
"""
