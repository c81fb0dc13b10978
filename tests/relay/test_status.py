"""What a relay tells over HTTP."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stack.relay import edge
from stack.relay.status import RelayStatus, render, respond

STATUS = RelayStatus("north", 3, 1, 8, 2, False, {"relay.flow_made": 4})


def ask(line: str, status: RelayStatus = STATUS) -> tuple[int, str]:
    head, _, body = respond(f"{line} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), status).decode().partition("\r\n\r\n")
    assert f"Content-Length: {len(body)}" in head or line.startswith("HEAD")
    return int(head.split(" ")[1]), body


@pytest.mark.parametrize(
    ("line", "code"),
    [("GET /livez", 200), ("GET /readyz", 200), ("GET /metrics?x=1", 200), ("HEAD /livez", 200), ("GET /", 404),
     ("GET /livez/", 404), ("POST /livez", 405), ("GET", 404)],
)  # fmt: skip
def test_the_paths_that_there_are(line: str, code: int) -> None:
    assert ask(line)[0] == code


@pytest.mark.parametrize("head", [b"", b"\r\n\r\n", b"\xff\xfe\r\n\r\n", b"G" * 9000])
def test_what_is_no_request(head: bytes) -> None:
    assert respond(head, STATUS).startswith(b"HTTP/1.1 400 ")


def test_readiness_wants_a_node_and_no_drain() -> None:
    assert ask("GET /readyz", STATUS._replace(nodes=0))[0] == 503
    assert ask("GET /readyz", STATUS._replace(draining=True)) == (503, '{"status": "draining", "nodes": "2"}\n')
    assert ask("GET /livez", STATUS._replace(nodes=0, draining=True))[0] == 200


def test_metrics_are_what_prometheus_reads() -> None:
    families = {family.name: family for family in text_string_to_metric_families(render(STATUS))}
    (flows,) = families["voice_relay_flows"].samples
    assert (flows.labels, flows.value) == ({"region": "north"}, 3)
    (share,) = families["voice_relay_flows_share"].samples
    assert share.value == pytest.approx(3 / 8)
    counters = {each.labels["name"]: each.value for each in families["voice_counters"].samples}
    assert counters["flow_made"] == 4
    assert counters["flow_proven"] == 0  # those that are 0 are there, too
    assert edge.FAULT_LOOP.partition(".")[2] in counters
