import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.sctp.crc32c import crc32c_extend, crc32c_table


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # RFC 3720 §B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
    ],
)
def test_known_values(data, expected):
    assert crc32c_extend(0, data) == expected
    assert crc32c_table(data) == expected


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_fast_one_and_table_agree_in_pieces(first, second):
    assert crc32c_extend(crc32c_extend(0, first), second) == crc32c_table(first + second)
    assert crc32c_table(second, crc32c_table(first)) == crc32c_table(first + second)
