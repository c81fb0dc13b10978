"""The fuzz targets of DTLS on a budget: hypothesis finds the bytes, `python -m tests.fuzz` goes on from there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.dtls_targets import TARGETS, machines

STEPS = st.lists(
    st.tuples(
        st.sampled_from((0, 0, 0, 0, 1, 2, 2, 3, 4, 5, 6, 7)),
        st.integers(0, 255),
        st.integers(0, 255),
    ),
    max_size=30,
)


@pytest.mark.parametrize("target", [target for name, target in TARGETS.items() if name != "dtls_machines"])
@settings(deadline=None, max_examples=300)
@given(data=st.binary(max_size=300))
def test_any_bytes(target: Callable[[bytes], None], data: bytes) -> None:
    target(data)


@settings(deadline=None, max_examples=150)
@given(settings=st.integers(0, 7), steps=STEPS, noise=st.binary(min_size=31, max_size=31))
def test_any_script(settings: int, steps: list[tuple[int, int, int]], noise: bytes) -> None:
    script = bytes((settings,))
    for verb, where, value in steps:
        script += bytes((verb, where, value))
        if verb in (3, 6):
            script += noise[: value & 31]
    machines(script)


@pytest.mark.parametrize("choice", range(8))
def test_a_script_without_faults_is_a_handshake(choice: int) -> None:
    """The scripts are no use if they never get anywhere."""
    from stack.dtls.endpoint import DtlsEndpointState
    from tests.fuzz.dtls_targets import _Script

    script = _Script(choice)
    for _ in range(40):
        script.step(0, 0, 0, b"")
    assert {end.state for end in script.ends.values()} == {DtlsEndpointState.CONNECTED}
