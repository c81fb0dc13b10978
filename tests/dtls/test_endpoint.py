"""Our client against our server, over good and bad links, in both versions."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from stack.core.errors import LocalError
from stack.dtls import (
    AlertDescription,
    ApplicationData,
    CertificateFingerprint,
    CipherSuite,
    DtlsConfig,
    DtlsEndpoint,
    DtlsEndpointState,
    DtlsFailed,
    DtlsFailure,
    DtlsRole,
    HandshakeComplete,
    NamedGroup,
    PeerClosed,
    SrtpProfile,
    Version,
    record,
)
from stack.dtls.record import RecordNumber
from stack.dtls.suites import SUITES
from tests.sim.certificates import CLIENT_CERTIFICATE, SERVER_CERTIFICATE, config
from tests.sim.dtls import DtlsPair
from tests.sim.entropy import entropy

V12, V13 = Version.DTLS_1_2, Version.DTLS_1_3
SUITES_12 = [s for s in CipherSuite if SUITES[s].version is V12 and "ECDSA" in s.name]
SUITES_13 = [s for s in CipherSuite if SUITES[s].version is V13]
SRTP_LABEL = "EXTRACTOR-dtls_srtp"


def assert_connected(pair: DtlsPair, version: Version) -> HandshakeComplete:
    done = [[e for e in pair.events[role] if isinstance(e, HandshakeComplete)] for role in DtlsRole]
    assert [len(events) for events in done] == [1, 1], pair.events
    client, server = done[0][0], done[1][0]
    assert client.version is server.version is version
    assert (client.cipher_suite, client.group) == (server.cipher_suite, server.group)
    assert client.srtp_profile is server.srtp_profile
    assert client.peer_certificate == SERVER_CERTIFICATE.der
    assert server.peer_certificate == CLIENT_CERTIFICATE.der
    exported = [pair.endpoint(role).export_keying_material(SRTP_LABEL, None, 60) for role in DtlsRole]
    assert exported[0] == exported[1]
    assert len(set(exported[0])) > 10
    return client


def assert_data_flows(pair: DtlsPair) -> None:
    pair.mend()
    for role in DtlsRole:
        pair.endpoint(role).send(b"from " + role.value.encode(), pair.now)
    pair.run(100)
    assert ApplicationData(b"from client") in pair.events[DtlsRole.SERVER]
    assert ApplicationData(b"from server") in pair.events[DtlsRole.CLIENT]


def failures(pair: DtlsPair, role: DtlsRole) -> list[DtlsFailed]:
    return [event for event in pair.events[role] if isinstance(event, DtlsFailed)]


@pytest.mark.parametrize(
    ("client_max", "server_max", "expected"),
    [(V13, V13, V13), (V12, V13, V12), (V13, V12, V12), (V12, V12, V12)],
)
def test_the_newest_common_version_is_spoken(client_max: Version, server_max: Version, expected: Version) -> None:
    # A 1.2 answer to a client that offered 1.3 comes from a server that has no 1.3: no downgrade.
    pair = DtlsPair({"max_version": client_max}, {"max_version": server_max})
    pair.handshake()
    assert_connected(pair, expected)
    assert_data_flows(pair)


@pytest.mark.parametrize("suite", [*SUITES_12, *SUITES_13])
@pytest.mark.parametrize("group", list(NamedGroup))
def test_every_suite_with_every_group(suite: CipherSuite, group: NamedGroup) -> None:
    version = SUITES[suite].version
    if version is V12 and group is NamedGroup.X25519MLKEM768:
        group = NamedGroup.X25519
    settings = {
        "cipher_suites": (suite,),
        "groups": (group,),
        "min_version": version,
        "max_version": version,
    }
    pair = DtlsPair(settings, settings)
    pair.handshake()
    done = assert_connected(pair, version)
    assert done.cipher_suite is suite
    assert done.group is group
    assert_data_flows(pair)


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("profile", list(SrtpProfile))
def test_every_srtp_profile(version: Version, profile: SrtpProfile) -> None:
    pair = DtlsPair({"max_version": version, "srtp_profiles": tuple(SrtpProfile)}, {"srtp_profiles": (profile,)})
    pair.handshake()
    assert assert_connected(pair, version).srtp_profile is profile


@pytest.mark.parametrize("version", [V12, V13])
def test_the_server_orders_srtp_profiles(version: Version) -> None:
    offered = (SrtpProfile.AES128_CM_HMAC_SHA1_80, SrtpProfile.AEAD_AES_256_GCM, SrtpProfile.AEAD_AES_128_GCM)
    pair = DtlsPair({"max_version": version, "srtp_profiles": offered})
    pair.handshake()
    assert assert_connected(pair, version).srtp_profile is SrtpProfile.AEAD_AES_128_GCM


@pytest.mark.parametrize("version", [V12, V13])
def test_no_common_srtp_profile_is_no_profile(version: Version) -> None:
    pair = DtlsPair(
        {"max_version": version, "srtp_profiles": (SrtpProfile.AEAD_AES_256_GCM,)},
        {"srtp_profiles": (SrtpProfile.AEAD_AES_128_GCM,)},
    )
    pair.handshake()
    assert assert_connected(pair, version).srtp_profile is None


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("mtu", [256, 512, 1200])
def test_no_handshake_datagram_exceeds_the_mtu(version: Version, mtu: int) -> None:
    pair = DtlsPair({"max_version": version, "mtu": mtu}, {"mtu": mtu})
    pair.handshake()
    assert_connected(pair, version)
    for role in DtlsRole:
        assert max(len(data) for data in pair.sent[role]) <= mtu


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("mtu", [256, 1200])
@pytest.mark.parametrize("seed", range(12))
def test_a_bad_link_only_takes_longer(version: Version, mtu: int, seed: int) -> None:
    pair = DtlsPair(
        {"max_version": version, "mtu": mtu},
        {"mtu": mtu},
        seed=seed,
        loss=0.2 if mtu == 1200 else 0.1,
        duplicate=0.2,
        jitter=0.3,
    )
    pair.handshake(2000.0)
    assert_connected(pair, version)


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize(("role", "index"), list(product(DtlsRole, (1, 2, 3))))
def test_any_single_datagram_may_be_lost(version: Version, role: DtlsRole, index: int) -> None:
    pair = DtlsPair(
        {"max_version": version}, filter=lambda sender, data, n: None if (sender, n) == (role, index) else data
    )
    pair.handshake()
    assert_connected(pair, version)
    assert_data_flows(pair)


@pytest.mark.parametrize(
    ("client", "server", "trips"),
    [
        ({}, {}, 1),
        ({"key_shares": (NamedGroup.X25519,)}, {"groups": (NamedGroup.SECP256R1,)}, 2),
        ({}, {"cookie": True}, 2),
        ({"max_version": V12}, {"cookie": True}, 3),
        ({"max_version": V12}, {}, 2),
    ],
)
def test_round_trips_until_the_client_may_send(client: dict[str, Any], server: dict[str, Any], trips: int) -> None:
    pair = DtlsPair(client, server, delay=0.05)
    pair.start()
    pair.run(trips * 0.1 - 0.01)
    assert not pair.client.can_send
    pair.run(0.02)
    assert pair.client.can_send
    assert pair.client.negotiated.hello_retried == (trips == 2 and pair.client.version is V13)


def test_a_server_of_1_3_may_send_right_after_its_finished() -> None:
    pair = DtlsPair(delay=0.05)
    pair.start()
    assert not pair.server.can_send
    pair.run(0.06)
    assert pair.server.state is DtlsEndpointState.HANDSHAKE
    pair.server.send(b"early", pair.now)
    pair.run()
    assert_connected(pair, V13)
    assert ApplicationData(b"early") in pair.events[DtlsRole.CLIENT]


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("role", list(DtlsRole))
def test_a_wrong_fingerprint_is_refused_in_the_handshake(version: Version, role: DtlsRole) -> None:
    wrong = {"peer_fingerprints": (CertificateFingerprint("sha-256", bytes(32)),)}
    client: dict[str, Any] = {"max_version": version}
    server: dict[str, Any] = {}
    (client if role is DtlsRole.CLIENT else server).update(wrong)
    pair = DtlsPair(client, server)
    pair.handshake()
    mine = failures(pair, role)
    assert [(f.reason, f.alert, f.remote) for f in mine] == [
        (DtlsFailure.FINGERPRINT_MISMATCH, AlertDescription.BAD_CERTIFICATE, False)
    ]
    assert not any(isinstance(e, HandshakeComplete) for e in pair.events[role])
    peer = DtlsRole.SERVER if role is DtlsRole.CLIENT else DtlsRole.CLIENT
    told = failures(pair, peer)
    assert [(f.reason, f.alert, f.remote) for f in told] == [
        (DtlsFailure.ALERT_RECEIVED, AlertDescription.BAD_CERTIFICATE, True)
    ]
    if (version, role) != (V13, DtlsRole.SERVER):  # there the client is through before its certificate is seen
        assert not any(isinstance(e, HandshakeComplete) for e in pair.events[peer])


@pytest.mark.parametrize("version", [V12, V13])
def test_close_notify_reaches_the_peer_and_is_answered(version: Version) -> None:
    pair = DtlsPair({"max_version": version})
    pair.handshake()
    pair.client.close(pair.now)
    pair.run()
    assert pair.events[DtlsRole.SERVER][-1] == PeerClosed()
    assert pair.client.state is DtlsEndpointState.CLOSED
    with pytest.raises(LocalError):
        pair.client.send(b"late", pair.now)
    if version is V13:  # the other direction stays open until it is closed as well
        pair.server.send(b"still here", pair.now)
        pair.server.close(pair.now)
        pair.run()
        assert ApplicationData(b"still here") in pair.events[DtlsRole.CLIENT]
    assert pair.events[DtlsRole.CLIENT][-1] == PeerClosed()
    assert pair.client.poll_timeout() is None
    assert pair.server.poll_timeout() is None


def test_closing_in_the_middle_of_a_handshake_is_quiet() -> None:
    pair = DtlsPair()
    pair.start()
    pair.run(0.03)
    pair.client.close(pair.now)
    pair.run()
    assert pair.events[DtlsRole.CLIENT] == []
    assert pair.client.poll_timeout() is None
    assert pair.client.counters["dtls.dropped_handshake_after_close"] > 0


@pytest.mark.parametrize("request_peer", [False, True])
def test_key_updates_renew_the_keys_of_both_directions(request_peer: bool) -> None:
    pair = DtlsPair()
    pair.handshake()
    for round_number in range(9):
        pair.client.update_keys(pair.now, request_peer)
        pair.server.update_keys(pair.now, request_peer)
        pair.run()
        for role in DtlsRole:
            pair.endpoint(role).send(b"%d" % round_number, pair.now)
        pair.run()
    for role in DtlsRole:
        assert [e.data for e in pair.events[role] if isinstance(e, ApplicationData)] == [
            b"%d" % n for n in range(9)
        ]


def test_a_lost_key_update_is_sent_again() -> None:
    pair = DtlsPair(loss=0.3, seed=5)
    pair.handshake()
    for _ in range(5):
        pair.client.update_keys(pair.now, True)
        pair.run(500)
    assert_data_flows(pair)


@pytest.mark.parametrize(("request_peer", "updates"), [(False, 1), (True, 2)])
def test_an_update_that_is_under_way_will_do(request_peer: bool, updates: int) -> None:
    pair = DtlsPair()
    pair.handshake()
    pair.client.update_keys(pair.now)
    for _ in range(3):
        # Nothing is gained by changing the keys twice, unless the peer's are wanted changed as well.
        pair.client.update_keys(pair.now, request_peer)
    pair.run()
    assert_data_flows(pair)
    assert pair.sent[DtlsRole.CLIENT][-1][0] & 3 == (3 + updates) & 3  # RFC 9147 §4: the epoch's low bits


@pytest.mark.parametrize("version", [V12, V13])
def test_giving_up_tells_the_peer_why(version: Version) -> None:
    pair = DtlsPair({"max_version": version, "min_version": version})
    pair.handshake()
    pair.client.abort(AlertDescription.ACCESS_DENIED)
    pair.client.abort(AlertDescription.INTERNAL_ERROR)  # too late
    pair.run()
    (ours,), (theirs,) = failures(pair, DtlsRole.CLIENT), failures(pair, DtlsRole.SERVER)
    assert (ours.reason, ours.alert, ours.remote) == (DtlsFailure.ABORTED, AlertDescription.ACCESS_DENIED, False)
    assert (theirs.reason, theirs.alert) == (DtlsFailure.ALERT_RECEIVED, AlertDescription.ACCESS_DENIED)
    assert not pair.client.can_send
    assert pair.client.poll_timeout() is None


def test_the_handshake_is_reproducible_but_for_the_hybrid() -> None:
    sent = []
    for _ in range(2):
        pair = DtlsPair({"groups": (NamedGroup.X25519,)}, seed=7)
        pair.handshake()
        sent.append(pair.sent)
    assert sent[0] == sent[1]


def test_the_peer_that_never_answers_is_given_up() -> None:
    pair = DtlsPair(loss=1.0)
    pair.handshake(10_000.0)
    assert [f.reason for f in failures(pair, DtlsRole.CLIENT)] == [DtlsFailure.TIMEOUT]
    assert len(pair.sent[DtlsRole.CLIENT]) == 13
    assert pair.client.poll_timeout() is None


def test_retransmissions_double_from_the_initial_timeout_to_a_minute() -> None:
    client = DtlsEndpoint(DtlsRole.CLIENT, config(DtlsRole.CLIENT, initial_timeout=0.4), entropy(1))
    client.start(10.0)
    now, waits = 10.0, []
    while (at := client.poll_timeout()) is not None:
        waits.append(round(at - now, 6))
        now = at
        client.handle_timeout(now)
    assert waits == [0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60, 60, 60, 60, 60]


def test_a_measured_round_trip_moves_the_running_timer() -> None:
    client = DtlsEndpoint(DtlsRole.CLIENT, config(DtlsRole.CLIENT), entropy(1))
    client.start(10.0)
    client.set_initial_timeout(0.1)
    assert client.poll_timeout() == pytest.approx(10.1)
    client.handle_timeout(10.1)
    client.set_initial_timeout(0.3)
    assert client.poll_timeout() == pytest.approx(10.7)


def test_the_key_log_has_the_lines_that_wireshark_reads() -> None:
    for version, labels in (
        (V12, {"CLIENT_RANDOM"}),
        (
            V13,
            {
                "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
                "SERVER_HANDSHAKE_TRAFFIC_SECRET",
                "CLIENT_TRAFFIC_SECRET_0",
                "SERVER_TRAFFIC_SECRET_0",
                "EXPORTER_SECRET",
            },
        ),
    ):
        ours: list[str] = []
        theirs: list[str] = []
        pair = DtlsPair({"max_version": version, "key_log": ours.append}, {"key_log": theirs.append})
        pair.handshake()
        assert {line.split()[0] for line in ours} == labels
        assert sorted(ours) == sorted(theirs)


def test_commands_at_the_wrong_time_are_our_callers_fault() -> None:
    client = DtlsEndpoint(DtlsRole.CLIENT, config(DtlsRole.CLIENT), entropy(1))
    with pytest.raises(LocalError):
        client.send(b"x", 0.0)
    with pytest.raises(LocalError):
        client.export_keying_material(SRTP_LABEL, None, 60)
    client.start(0.0)
    with pytest.raises(LocalError):
        client.start(0.0)
    with pytest.raises(LocalError):
        client.update_keys(0.0)
    with pytest.raises(LocalError):
        client.set_mtu(100)


def test_a_configuration_that_cannot_work_is_refused() -> None:
    for changes in (
        {"mtu": 100},
        {"min_version": V13, "max_version": V12},
        {"min_version": Version.DTLS_1_0},
        {"groups": ()},
        {"cipher_suites": (CipherSuite.TLS_AES_128_GCM_SHA256,)},
    ):
        with pytest.raises(LocalError):
            DtlsConfig(CLIENT_CERTIFICATE, None, **changes)


# -- an alert for the case that this side is gone --------------------------------------------------------------


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("role", list(DtlsRole))
def test_an_alert_that_another_process_sends_ends_the_connection(version: Version, role: DtlsRole) -> None:
    pair = DtlsPair({"max_version": version})
    assert pair.endpoint(role).failure_alert() is None
    pair.handshake()
    kept = pair.endpoint(role).failure_alert()
    assert kept is not None
    assert_data_flows(pair)
    assert pair.endpoint(role).failure_alert() == kept
    assert pair.endpoint(role).state is DtlsEndpointState.CONNECTED
    peer = DtlsRole.SERVER if role is DtlsRole.CLIENT else DtlsRole.CLIENT
    pair.inject(peer, kept)
    pair.run(1)
    (failed,) = failures(pair, peer)
    assert failed == DtlsFailed(DtlsFailure.ALERT_RECEIVED, AlertDescription.INTERNAL_ERROR, remote=True)
    assert pair.endpoint(peer).state is DtlsEndpointState.FAILED


@pytest.mark.parametrize("version", [V12, V13])
def test_a_kept_alert_is_made_again_when_as_many_records_have_left_and_shares_no_number(
    version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "KEPT_AHEAD", 5)
    pair = DtlsPair({"max_version": version})
    pair.handshake()
    sealed: list[RecordNumber] = []
    state = pair.server._layer.records._write[pair.server._layer.records.write_epoch]
    seal = state.protection.seal

    def noting(content_type: int, number: RecordNumber, payload: bytes) -> bytes:
        sealed.append(number)
        return seal(content_type, number, payload)

    monkeypatch.setattr(type(state.protection), "seal", lambda _, *given: noting(*given))
    alerts = set()
    for _ in range(20):
        alerts.add(pair.server.failure_alert())
        pair.server.send(b"data", pair.now)
    assert len(alerts) == 4
    assert len(sealed) == len(set(sealed)) == 24
    pair.run(1)
    assert [e for e in pair.events[DtlsRole.CLIENT] if isinstance(e, ApplicationData)].count(
        ApplicationData(b"data")
    ) == 20
    latest = pair.server.failure_alert()
    assert latest is not None
    pair.inject(DtlsRole.CLIENT, latest)
    pair.run(1)
    assert failures(pair, DtlsRole.CLIENT)


@pytest.mark.parametrize("version", [V12, V13])
def test_there_is_no_alert_to_keep_once_the_connection_is_over(version: Version) -> None:
    pair = DtlsPair({"max_version": version})
    pair.handshake()
    pair.server.close(pair.now)
    assert pair.server.failure_alert() is None
