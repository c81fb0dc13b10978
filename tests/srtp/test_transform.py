"""The engine and the reference against each other: either end may be either one."""

import random
from collections.abc import Callable
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.core.errors import LocalError
from stack.srtp import (
    MAX_REMOTE_SOURCES,
    MasterKey,
    SrtpContext,
    SrtpEngine,
    SrtpError,
    SrtpFailure,
    SrtpProfile,
    SrtpTransform,
)

Maker = Callable[[SrtpProfile, MasterKey, MasterKey], SrtpTransform]
PAIRS = [
    (SrtpEngine, SrtpContext),
    (SrtpContext, SrtpEngine),
    (SrtpEngine, SrtpEngine),
    (SrtpContext, SrtpContext),
]


def keys(profile: SrtpProfile, seed: int) -> MasterKey:
    source = random.Random(seed)
    return MasterKey(source.randbytes(profile.key_length), source.randbytes(profile.salt_length))


def connect(makers: tuple[Maker, Maker], profile: SrtpProfile) -> tuple[SrtpTransform, SrtpTransform]:
    first, second = keys(profile, 1), keys(profile, 2)
    return makers[0](profile, first, second), makers[1](profile, second, first)


def rtp(
    sequence: int, payload: bytes = b"sound", ssrc: int = 7, csrcs: int = 0, extension: bytes | None = None
) -> bytes:
    first = 0x80 | csrcs | (0x10 if extension is not None else 0)
    header = pack("!BBHII", first, 111, sequence & 0xFFFF, 960 * sequence & 0xFFFFFFFF, ssrc) + b"csrc" * csrcs
    if extension is not None:
        header += pack("!HH", 0xBEDE, len(extension) // 4) + extension
    return header + payload


def rtcp(ssrc: int = 7, body: bytes = bytes(20)) -> bytes:
    return pack("!BBHI", 0x80, 200, 1 + len(body) // 4, ssrc) + body


def reason(call: Callable[[bytes], bytes], data: bytes) -> SrtpFailure | None:
    try:
        call(data)
    except SrtpError as error:
        return error.reason
    return None


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair[0].__name__}-{pair[1].__name__}")
def makers(request: pytest.FixtureRequest) -> tuple[Maker, Maker]:
    pair: tuple[Maker, Maker] = request.param
    return pair


@pytest.mark.parametrize("profile", SrtpProfile)
def test_both_directions_rtp_and_rtcp(makers: tuple[Maker, Maker], profile: SrtpProfile) -> None:
    a, b = connect(makers, profile)
    for sender, receiver in ((a, b), (b, a)):
        for sequence in range(3):
            packet = rtp(sequence, csrcs=2, extension=b"\x10\x85\0\0")
            protected = sender.protect(packet)
            assert len(protected) == len(packet) + profile.rtp_tag_length
            assert protected[:12] == packet[:12]
            assert protected != packet + protected[-profile.rtp_tag_length :]
            assert receiver.unprotect(protected) == packet
            assert receiver.unprotect_rtcp(sender.protect_rtcp(rtcp())) == rtcp()


@pytest.mark.parametrize("profile", SrtpProfile)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 0xFFFFFFFF), st.binary(max_size=200), st.integers(0, 15), st.none() | st.just(bytes(8))
        ),
        max_size=8,
    )
)
@settings(max_examples=25)
def test_engine_and_reference_make_the_same_bytes(
    profile: SrtpProfile, packets: list[tuple[int, bytes, int, bytes | None]]
) -> None:
    engine, reference = (
        SrtpEngine(profile, keys(profile, 1), keys(profile, 2)),
        SrtpContext(profile, keys(profile, 1), keys(profile, 2)),
    )
    for sequence, (ssrc, payload, csrcs, extension) in enumerate(packets):
        packet = rtp(sequence, payload, ssrc, csrcs, extension)
        assert engine.protect(packet) == reference.protect(packet)


@given(st.data())
@settings(max_examples=40)
def test_engine_and_reference_accept_the_same_packets(data: st.DataObject) -> None:
    """A network that loses, repeats, reorders and damages; the line crosses two wraps of the sequence number."""
    profile = data.draw(st.sampled_from(list(SrtpProfile)))
    sender = SrtpEngine(profile, keys(profile, 1), keys(profile, 2))
    receivers = [maker(profile, keys(profile, 2), keys(profile, 1)) for maker in (SrtpEngine, SrtpContext)]
    position = data.draw(st.integers(0, 0x7FFF))
    sent: list[bytes] = []
    for step in data.draw(st.lists(st.integers(1, 20_000), min_size=1, max_size=15)):
        position += step
        for offset in range(3):
            sent.append(sender.protect(rtp(position + offset)))
        position += 2
        for _ in range(data.draw(st.integers(1, 5))):
            packet = bytearray(sent[-1 - data.draw(st.integers(0, min(len(sent) - 1, 8)))])
            if data.draw(st.booleans()) and data.draw(st.booleans()):
                packet[data.draw(st.integers(12, len(packet) - 1))] ^= 1 << data.draw(st.integers(0, 7))
            verdicts = [reason(receiver.unprotect, bytes(packet)) for receiver in receivers]
            assert verdicts[0] == verdicts[1]


@pytest.mark.parametrize("profile", SrtpProfile)
def test_the_rollover_counter_survives_wraps_and_reordering(
    makers: tuple[Maker, Maker], profile: SrtpProfile
) -> None:
    a, b = connect(makers, profile)
    line = range(0x7FF0, 3 * 0x10000, 997)
    protected = [a.protect(rtp(sequence)) for sequence in line]
    for index in range(0, len(protected) - 1, 2):  # every two packets swapped
        assert b.unprotect(protected[index + 1]) == rtp(line[index + 1])
        # 997 behind is outside the replay window.
        assert reason(b.unprotect, protected[index]) is SrtpFailure.REPLAY
    near = [a.protect(rtp(sequence)) for sequence in range(3 * 0x10000 - 2, 3 * 0x10000 + 3)]
    assert [b.unprotect(near[index])[3] for index in (0, 3, 1, 4, 2)] == [0xFE, 1, 0xFF, 2, 0]


@pytest.mark.parametrize("profile", SrtpProfile)
def test_a_replay_is_refused(makers: tuple[Maker, Maker], profile: SrtpProfile) -> None:
    a, b = connect(makers, profile)
    packet, report = a.protect(rtp(1)), a.protect_rtcp(rtcp())
    b.unprotect(packet)
    b.unprotect_rtcp(report)
    assert reason(b.unprotect, packet) is SrtpFailure.REPLAY
    assert reason(b.unprotect_rtcp, report) is SrtpFailure.REPLAY


@pytest.mark.parametrize("profile", SrtpProfile)
def test_a_changed_bit_anywhere_is_refused(makers: tuple[Maker, Maker], profile: SrtpProfile) -> None:
    a, b = connect(makers, profile)
    packet, report = a.protect(rtp(1)), a.protect_rtcp(rtcp())
    for protected, call in ((packet, b.unprotect), (report, b.unprotect_rtcp)):
        for position in range(1, len(protected)):
            forged = bytearray(protected)
            forged[position] ^= 0x10
            assert reason(call, bytes(forged)) is not None, position
        assert call(protected)  # nothing of that disturbed the stream


@pytest.mark.parametrize("profile", SrtpProfile)
def test_a_forged_packet_does_not_move_the_rollover_counter(
    makers: tuple[Maker, Maker], profile: SrtpProfile
) -> None:
    a, b = connect(makers, profile)
    b.unprotect(a.protect(rtp(0x7000)))
    for sequence in (0xEFFF, 0x7002, 0x8000):
        assert reason(b.unprotect, rtp(sequence, bytes(40))) is SrtpFailure.AUTHENTICATION
    assert b.unprotect(a.protect(rtp(0x7001))) == rtp(0x7001)


def test_retransmitting_the_same_packet_gives_the_same_bytes(makers: tuple[Maker, Maker]) -> None:
    a, _ = connect(makers, SrtpProfile.AEAD_AES_128_GCM)
    first = a.protect(rtp(10))
    a.protect(rtp(11))
    assert a.protect(rtp(10)) == first


@pytest.mark.parametrize("maker", [SrtpEngine, SrtpContext])
def test_sources_are_bounded_and_strangers_cannot_fill_the_table(maker: Maker) -> None:
    profile = SrtpProfile.AEAD_AES_128_GCM
    a, b = connect((maker, maker), profile)
    for ssrc in range(1000, 1000 + 2 * MAX_REMOTE_SOURCES):
        assert reason(b.unprotect, rtp(1, bytes(40), ssrc)) is SrtpFailure.AUTHENTICATION
    for ssrc in range(MAX_REMOTE_SOURCES):
        assert b.unprotect(a.protect(rtp(1, ssrc=ssrc)))
    assert reason(b.unprotect, a.protect(rtp(1, ssrc=99_999))) is SrtpFailure.TOO_MANY_SOURCES
    assert reason(b.unprotect_rtcp, a.protect_rtcp(rtcp(99_998))) is SrtpFailure.TOO_MANY_SOURCES
    assert b.unprotect(a.protect(rtp(2, ssrc=0)))


@pytest.mark.parametrize("maker", [SrtpEngine, SrtpContext])
@pytest.mark.parametrize("profile", SrtpProfile)
@given(st.binary(max_size=100) | st.binary(min_size=8, max_size=1700).map(lambda tail: b"\x90\x6f" + tail))
@settings(max_examples=40)
def test_hostile_bytes_are_only_ever_refused(maker: Maker, profile: SrtpProfile, data: bytes) -> None:
    _, b = connect((maker, maker), profile)
    assert isinstance(reason(b.unprotect, data), SrtpFailure)
    assert isinstance(reason(b.unprotect_rtcp, data), SrtpFailure)


@pytest.mark.parametrize("maker", [SrtpEngine, SrtpContext])
def test_malformed_is_told_from_forged(maker: Maker) -> None:
    _, b = connect((maker, maker), SrtpProfile.AES128_CM_HMAC_SHA1_80)
    for data in (b"", b"\x80", rtp(1)[:11], b"\x80\xc8\0\1"):
        assert reason(b.unprotect, data) is SrtpFailure.MALFORMED
        assert reason(b.unprotect_rtcp, data) is SrtpFailure.MALFORMED


@pytest.mark.parametrize("maker", [SrtpEngine, SrtpContext])
def test_protecting_nonsense_is_our_own_fault(maker: Maker) -> None:
    a, _ = connect((maker, maker), SrtpProfile.AEAD_AES_128_GCM)
    with pytest.raises(LocalError):
        a.protect(b"short")
    with pytest.raises(LocalError):
        a.protect_rtcp(b"short")
    with pytest.raises(LocalError):
        maker(SrtpProfile.AEAD_AES_256_GCM, MasterKey(bytes(16), bytes(12)), MasterKey(bytes(32), bytes(12)))
