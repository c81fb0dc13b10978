"""Keeps a relay up: one process has the sockets and the flows, and its child forwards.

If the child dies, the next one is forked in milliseconds, with all that was imported: nothing starts anew but the
sockets of the flows, and what clients have sent meanwhile waits in a socket that was never closed. The parent does
nothing that could fail: it waits, and passes SIGTERM and SIGINT on. If it is killed itself, its child ends with it
(the pipe between them closes), as all else would find the port and the file taken; then a start costs what Python
costs.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress

from stack.relay.edge import RelayConfig, RelayServer, RelaySockets, mapped
from stack.relay.flow_file import size_of
from stack.relay.node_list import NodeFeed

STEADY = 1.0
"""Seconds after which a child has not died of how it was begun: the next one begins at once."""
FIRST_WAIT = 0.1
"""Seconds before a child is forked whose two predecessors have died sooner; doubled each time."""
LONGEST_WAIT = 2.0
FAULT_CODE = 70
"""Exit status of a child that has died of a bug of ours (sysexits.h: EX_SOFTWARE)."""
_PASSED_ON = (signal.SIGTERM, signal.SIGINT)


class Supervisor:
    """Runs `forward(former, parent)` in a child, again whenever that dies, until it is told to end.

    `former` is how many children there were before, `parent` a descriptor that is at its end when the parent is
    gone. Signals are blocked in the child until it has handlers: `forward` calls `take_signals`.
    """

    def __init__(self, forward: Callable[[int, int], None]) -> None:
        self._forward = forward
        self._child: int | None = None
        self._is_ending = False

    def run(self) -> None:
        """Return when a child has ended as it was told to."""
        for number in _PASSED_ON:
            signal.signal(number, self._pass_on)
        former, quick = 0, 0
        while not self._is_ending:
            began = time.monotonic()
            code = self._run_child(former)
            if code == 0:
                return
            former += 1
            quick = quick + 1 if time.monotonic() - began < STEADY else 0
            if not self._is_ending:
                how = f"signal {-code}" if code < 0 else f"status {code}"
                print(
                    f"relay: the process that forwards has ended ({how}); the next one",
                    file=sys.stderr,
                    flush=True,
                )
            if quick > 1:
                time.sleep(min(FIRST_WAIT * 2 ** (quick - 2), LONGEST_WAIT))

    def _run_child(self, former: int) -> int:
        """Fork, wait, and return the exit status (the number of a signal below zero)."""
        theirs, ours = os.pipe()
        signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
        child = os.fork()
        if child == 0:
            os.close(ours)
            self._be_child(former, theirs)
        os.close(theirs)
        self._child = child
        take_signals()
        while True:
            ended, status = os.waitpid(-1, 0)
            if ended == child:
                break
            # Another is one that a dead child has left to us: we may be the first process of a container.
        self._child = None
        os.close(ours)
        return os.waitstatus_to_exitcode(status)

    def _be_child(self, former: int, parent: int) -> None:
        code = FAULT_CODE
        try:
            self._forward(former, parent)
            code = 0
        except BaseException:  # it must not return into what the parent does
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)

    def _pass_on(self, number: int, _frame: object) -> None:
        self._is_ending = True
        if self._child is not None:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(self._child, number)


def take_signals() -> None:
    """Let in what was blocked over a fork."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)


def run_relay(config: RelayConfig, new_feed: Callable[[], NodeFeed], follows: bool) -> None:
    """Run a relay until it is told to end; `follows`: its nodes are learned, too.

    Raises `LocalError` for a port, an address or a file that cannot be had.
    """
    with mapped(config.flows, size_of(config.max_flows)) as buffer, RelaySockets(config) as sockets:

        def forward(former: int, parent: int) -> None:
            server = RelayServer(config, sockets, new_feed(), follows, buffer, former, parent)
            take_signals()
            where = ", ".join(str(address) for address in server.addresses)
            again = f", {server.relay.flows} flows go on" if server.relay.flows else ""
            print(
                f"Relaying UDP {where} to {len(server.relay.nodes)} known nodes{again}.  "
                f"(status: http://{server.http_address}/metrics ; Ctrl-C ends)",
                flush=True,
            )
            server.run()

        Supervisor(forward).run()
