"""The file of the ticket keys: made, rotated, revoked from, and for its owner alone."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from stack.aio import ticket_file
from stack.aio.ticket_site import TicketRingPem
from stack.core.errors import LocalError


def test_a_file_is_made_for_its_owner_alone_and_rotated(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    epochs = [[key.epoch for key in ticket_file.add_epoch(path).keys] for _ in range(5)]
    assert epochs == [[1], [1, 2], [1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    ring = ticket_file.read_ring(path)
    assert len({key.secret for key in ring.keys}) == 4
    assert len({str(key.certificate.fingerprint()) for key in ring.keys}) == 4
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    made = ticket_file.add_epoch(path, [b"12345678"])
    found = ticket_file.read_ring(path)
    assert found.revoked == made.revoked == {b"12345678"}
    assert found.newest.secret == made.newest.secret
    assert found.newest.certificate.der == made.newest.certificate.der
    again = TicketRingPem.of(found).read()
    assert again.newest.secret == found.newest.secret
    assert again.newest.certificate.der == found.newest.certificate.der
    assert again.revoked == found.revoked
    assert found.newest.secret.hex() not in repr(TicketRingPem.of(found))


def test_references_and_epochs_are_revoked(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    ticket_file.add_epoch(path)
    ticket_file.add_epoch(path)
    ring = ticket_file.revoke(path, [b"12345678"])
    assert ([key.epoch for key in ring.keys], ring.revoked) == ([1, 2], {b"12345678"})
    assert [key.epoch for key in ticket_file.revoke(path, epochs=[1]).keys] == [2]
    assert [key.epoch for key in ticket_file.revoke(path, epochs=[2]).keys] == [3], (
        "there is always one that seals"
    )
    assert ticket_file.read_ring(path).revoked == {b"12345678"}


def test_the_newest_epoch_is_revoked(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    former = [ticket_file.add_epoch(path) for _ in range(2)][-1]
    ring = ticket_file.revoke(path, epochs=[2])
    assert [key.epoch for key in ring.keys] == [1, 3], (
        "the first does not seal again, and there is no second second"
    )
    assert ring.newest.secret not in {key.secret for key in former.keys}
    assert [key.epoch for key in ticket_file.add_epoch(path).keys] == [1, 3, 4]
    for epoch in range(4, 17):
        ring = ticket_file.revoke(path, epochs=[epoch])
    assert [key.epoch for key in ring.keys] == [3, 17], "1 and 17 would go by one key id"


def test_an_epoch_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    ticket_file.add_epoch(path)
    before = path.read_bytes()
    with pytest.raises(LocalError, match=r"there is no epoch 99 in .*: it has 1"):
        ticket_file.revoke(path, [b"12345678"], [1, 99])
    assert path.read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="there are no such permissions here")
def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    ticket_file.add_epoch(path)
    path.chmod(0o640)
    with pytest.raises(LocalError, match="chmod 600"):
        ticket_file.read_ring(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(version=2),
        lambda content: content["epochs"][0].update(secret="00"),
        lambda content: content["epochs"][0].update(secret="no hex"),
        lambda content: content["epochs"][0].update(certificate="none"),
        lambda content: content["epochs"].clear(),
        lambda content: content.update(more=1),
        lambda content: content["epochs"].append(content["epochs"][0]),
    ],
)
def test_what_is_no_such_file(tmp_path: Path, change: object) -> None:
    path = tmp_path / "keys"
    ticket_file.add_epoch(path)
    content = json.loads(path.read_text())
    assert callable(change)
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(LocalError):
        ticket_file.read_ring(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for read in (ticket_file.read_ring, ticket_file.revoke):
        with pytest.raises(LocalError, match="cannot read"):
            read(tmp_path / "none")
    with pytest.raises(LocalError, match="cannot write"):
        ticket_file.add_epoch(tmp_path / "none" / "keys")


@pytest.mark.parametrize("text", ["", "0011", "00112233445566778899", "no hex"])
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(LocalError, match="16 hexadecimal"):
        ticket_file.read_reference(text)
    assert ticket_file.read_reference("3132333435363738") == b"12345678"
