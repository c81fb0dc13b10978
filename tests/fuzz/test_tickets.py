"""The fuzz targets of tickets on a budget, as in `test_dtls.py`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.ticket_targets import TARGETS


@pytest.mark.parametrize("target", list(TARGETS.values()))
@settings(deadline=None, max_examples=300)
@given(data=st.binary(max_size=100))
def test_any_bytes(target: Callable[[bytes], None], data: bytes) -> None:
    target(data)


@settings(deadline=None, max_examples=300)
@given(tail=st.binary(max_size=24), flags=st.sampled_from((1, 2, 3, 0x1003, 0x2003, 0x3003, 0x4FFF)))
def test_any_bytes_behind_a_head_that_is_right(tail: bytes, flags: int) -> None:
    TARGETS["ticket"](bytes(44) + flags.to_bytes(2, "big") + tail)
