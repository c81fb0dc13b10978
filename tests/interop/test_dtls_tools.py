"""Our DTLS against OpenSSL, GnuTLS, Pion, mbedTLS and wolfSSL over UDP: both roles, good and bad links."""

from __future__ import annotations

import shutil
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from interop.dtls_udp import (
    EXPORT_LABEL,
    EXPORT_LENGTH,
    GNUTLS_SRTP,
    OPENSSL_SRTP,
    Address,
    OurSide,
    Tool,
    gnutls,
    mbedtls,
    mbedtls_program,
    openssl,
    pion,
    pion_program,
    running,
    wolfssl,
    wolfssl_program,
    write_pem,
)
from interop.impair import ImpairedRelay
from interop.network_model import NetworkModel
from interop.servers import free_port
from stack.dtls import (
    ApplicationData,
    Certificate,
    DtlsConfig,
    DtlsRole,
    HandshakeComplete,
    NamedGroup,
    SrtpProfile,
    Version,
)

pytestmark = [pytest.mark.peer, pytest.mark.real_clock]

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
OURS = Certificate.generate(Random(1).randbytes, EPOCH)
THEIRS = Certificate.generate(Random(2).randbytes, EPOCH)
TOOLS: dict[str, Callable[..., list[str]]] = {
    "openssl": openssl,
    "gnutls": gnutls,
    "pion": pion,
    "mbedtls": mbedtls,
    "wolfssl-1.2": wolfssl("1.2"),
    "wolfssl-1.3": wolfssl("1.3"),
    "wolfssl-hybrid": wolfssl("hybrid"),
}
# mbedTLS 2.28 has no AEAD profile for SRTP.
MBEDTLS_SRTP = (SrtpProfile.AES128_CM_HMAC_SHA1_80, SrtpProfile.AES128_CM_HMAC_SHA1_32)
READY = rb"ACCEPT|Echo Server listening on IPv4|ready"
BAD = NetworkModel(loss=0.1, delay=0.005, reorder=0.1, reorder_delay=0.02, duplicate=0.1)


def our_config(profile: SrtpProfile, mtu: int) -> DtlsConfig:
    return DtlsConfig(
        OURS,
        (THEIRS.fingerprint(),),
        min_version=Version.DTLS_1_2,
        max_version=Version.DTLS_1_3,
        srtp_profiles=(profile,),
        mtu=mtu,
        initial_timeout=0.1,
    )


@asynccontextmanager
async def relayed(network: NetworkModel | None, target: Address, seed: int) -> AsyncIterator[Address]:
    """Yield where to send to, for what shall arrive at `target`."""
    if network is None:
        yield target
    else:
        async with ImpairedRelay(network, network, target, seed=seed) as relay:
            yield relay.address


async def talk(
    name: str,
    role: DtlsRole,
    profile: SrtpProfile,
    pem: tuple[str, str],
    mtu: int,
    network: NetworkModel | None,
    seed: int,
) -> None:
    """One connection with us as `role`: handshake, equal keys, data both ways."""
    command = TOOLS[name]
    if role is DtlsRole.CLIENT:
        port = free_port(socket.SOCK_DGRAM)
        async with running(command(DtlsRole.SERVER, port, pem, profile, mtu)) as tool:
            await tool.expect(READY)
            async with (
                relayed(network, ("127.0.0.1", port), seed) as peer,
                OurSide(role, our_config(profile, mtu), peer) as ours,
            ):
                await exchange(name, role, ours, tool, profile)
    else:
        async with (
            OurSide(role, our_config(profile, mtu)) as ours,
            relayed(network, ("127.0.0.1", ours.port), seed) as (_, port),
            running(command(DtlsRole.CLIENT, port, pem, profile, mtu)) as tool,
        ):
            await exchange(name, role, ours, tool, profile)


async def exchange(name: str, role: DtlsRole, ours: OurSide, tool: Tool, profile: SrtpProfile) -> None:
    complete = await ours.wait_for(HandshakeComplete)
    is_13 = name in ("wolfssl-1.3", "wolfssl-hybrid")
    assert complete.version is (Version.DTLS_1_3 if is_13 else Version.DTLS_1_2)
    assert complete.srtp_profile is profile
    assert complete.peer_certificate == THEIRS.der
    assert is_13 or ours.endpoint.negotiated.extended_master_secret
    if name == "wolfssl-hybrid" and role is DtlsRole.SERVER:  # as client we send a share for X25519 alone
        assert complete.group is NamedGroup.X25519MLKEM768
    if name == "gnutls" and role is DtlsRole.CLIENT:
        # Over UDP this server prints no keys, and echoes.
        ours.send(b"from us\n")
        assert (await ours.wait_for(ApplicationData)).data == b"from us\n"
        return
    assert ours.endpoint.export_keying_material(EXPORT_LABEL, None, EXPORT_LENGTH) == await tool.keys()
    ours.send(b"from us\n")
    await tool.expect(rb"from us\s")
    await tool.type(b"from them\n")
    assert (await ours.wait_for(ApplicationData)).data == b"from them\n"


@pytest.fixture
def pem(tmp_path: Path) -> tuple[str, str]:
    return write_pem(THEIRS, tmp_path)


def need(name: str) -> None:
    if name == "pion":
        if pion_program() is None:
            pytest.skip("Pion could not be built here (it needs Go and its module): nothing was tried with it")
    elif name == "mbedtls":
        if mbedtls_program() is None:
            pytest.skip("no C compiler, or no mbedTLS 2.28 to compile with, here: nothing was tried with it")
    elif name.startswith("wolfssl"):
        if wolfssl_program() is None:
            pytest.skip("wolfSSL was not built here (`make peers` does, with cargo and a C compiler): not tried")
    elif shutil.which(program := {"openssl": "openssl", "gnutls": "gnutls-serv"}[name]) is None:
        pytest.skip(f"{program} is not installed here: nothing was tried with it")


@pytest.mark.parametrize("role", list(DtlsRole))
@pytest.mark.parametrize(
    ("name", "profile"),
    [
        *(("openssl", profile) for profile in OPENSSL_SRTP),
        *(("gnutls", profile) for profile in GNUTLS_SRTP),
        *(("pion", profile) for profile in SrtpProfile),
        *(("mbedtls", profile) for profile in MBEDTLS_SRTP),
        *((f"wolfssl-{version}", profile) for version in ("1.2", "1.3") for profile in SrtpProfile),
        ("wolfssl-hybrid", SrtpProfile.AEAD_AES_128_GCM),
    ],
)
async def test_every_profile(name: str, role: DtlsRole, profile: SrtpProfile, pem: tuple[str, str]) -> None:
    need(name)
    await talk(name, role, profile, pem, 1200, None, 0)


@pytest.mark.parametrize("role", list(DtlsRole))
@pytest.mark.parametrize("name", list(TOOLS))
async def test_narrow_links(name: str, role: DtlsRole, pem: tuple[str, str]) -> None:
    need(name)
    await talk(name, role, SrtpProfile.AES128_CM_HMAC_SHA1_80, pem, 512, None, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("role", list(DtlsRole))
@pytest.mark.parametrize("name", list(TOOLS))
async def test_lossy_links(name: str, role: DtlsRole, seed: int, pem: tuple[str, str]) -> None:
    """The handshake survives loss, copies and reordering at 512 bytes. Data is not tried: it is not repeated."""
    need(name)
    command = TOOLS[name]
    profile = SrtpProfile.AES128_CM_HMAC_SHA1_80
    port = free_port(socket.SOCK_DGRAM)
    if role is DtlsRole.CLIENT:
        async with running(command(DtlsRole.SERVER, port, pem, profile, 512)) as tool:
            await tool.expect(READY)
            async with (
                relayed(BAD, ("127.0.0.1", port), seed) as peer,
                OurSide(role, our_config(profile, 512), peer) as ours,
            ):
                await ours.wait_for(HandshakeComplete)
                if name != "gnutls":  # whose server prints no keys over UDP
                    keys = ours.endpoint.export_keying_material(EXPORT_LABEL, None, EXPORT_LENGTH)
                    assert keys == await tool.keys()
    else:
        async with (
            OurSide(role, our_config(profile, 512)) as ours,
            relayed(BAD, ("127.0.0.1", ours.port), seed) as (_, port),
            running(command(DtlsRole.CLIENT, port, pem, profile, 512)) as tool,
        ):
            await ours.wait_for(HandshakeComplete)
            keys = ours.endpoint.export_keying_material(EXPORT_LABEL, None, EXPORT_LENGTH)
            assert keys == await tool.keys()
