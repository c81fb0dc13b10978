from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.core.machine import Address, Path, TransportProtocol
from stack.core.trace import Direction, PcapWriter

HERE, THERE = Address("192.0.2.1", 3478), Address("198.51.100.7", 50000)
HERE6, THERE6 = Address("2001:db8::1", 3478), Address("2001:db8::2", 50000)


class TestPcap:
    @pytest.fixture(autouse=True)
    def _scapy(self) -> None:
        pytest.importorskip("scapy.layers.inet")
        pytest.importorskip("scapy.layers.inet6")  # what a raw IP capture is read with

    def read(self, file: BytesIO) -> list[object]:
        from scapy.utils import PcapReader

        file.seek(0)
        with PcapReader(file) as reader:  # type: ignore[arg-type]
            return list(reader)

    @given(st.lists(st.tuples(st.sampled_from(Direction), st.binary(max_size=1400), st.booleans()), max_size=5))
    def test_scapy_reads_what_was_written(self, datagrams: list[tuple[Direction, bytes, bool]]) -> None:
        file = BytesIO()
        writer = PcapWriter(file, epoch=1_700_000_000.0, origin=50.0)
        for number, (direction, data, is_ipv6) in enumerate(datagrams):
            writer.datagram(
                direction, data, Path(HERE6, THERE6) if is_ipv6 else Path(HERE, THERE), 50.0 + number / 4
            )
        writer.flush()
        packets = self.read(file)
        assert len(packets) == len(datagrams)
        for number, (packet, (direction, data, is_ipv6)) in enumerate(zip(packets, datagrams, strict=True)):
            ip, udp = packet["IPv6" if is_ipv6 else "IP"], packet["UDP"]  # type: ignore[index]
            source, destination = (HERE6, THERE6) if is_ipv6 else (HERE, THERE)
            if direction is Direction.IN:
                source, destination = destination, source
            assert (ip.src, udp.sport) == source
            assert (ip.dst, udp.dport) == destination
            assert bytes(udp.payload) == data
            assert float(packet.time) == pytest.approx(1_700_000_000 + number / 4)  # type: ignore[attr-defined]

    def test_a_datagram_that_is_too_long_is_cut(self) -> None:
        file = BytesIO()
        PcapWriter(file).datagram(Direction.OUT, bytes(70_000), Path(HERE, THERE), 0.0)
        (packet,) = self.read(file)
        assert len(packet["UDP"].payload) == 65_000  # type: ignore[index]


class TestPath:
    def test_text(self) -> None:
        assert str(Path(HERE, THERE)) == "192.0.2.1:3478<->198.51.100.7:50000/udp"
        assert str(Path(HERE6, THERE6, TransportProtocol.TCP)).startswith("[2001:db8::1]:3478")
        assert HERE6.is_ipv6
        assert not HERE.is_ipv6
