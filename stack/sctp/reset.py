"""Stream reset (RFC 6525 §5), the way a data channel is closed (RFC 8831 §6.7).

One request of ours is under way at a time (§5.1.1); streams that are to be reset meanwhile wait for the next. A
stream is reset when nothing is queued on it any more: what has a TSN is covered by the request's last assigned
TSN, and the peer performs it when it has everything up to there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from stack.core.machine import Instant
from stack.core.serial import SERIAL32, ExtendedTsn, ReconfigSequenceNumber, StreamId, Tsn
from stack.sctp.chunks import ReconfigChunk
from stack.sctp.chunks.reconfig import (
    IncomingSsnResetRequest,
    OutgoingSsnResetRequest,
    ReconfigResponse,
    ReconfigResult,
)
from stack.sctp.tsn import wrap_tsn

MAX_STREAMS_PER_REQUEST = 128
"""More streams than this wait for the next request, so that a request fits a packet."""
MAX_ATTEMPTS = 10
"""A request that is not answered this often counts as done."""


class IncomingReset(NamedTuple):
    """The peer has reset these streams of its own; none named: all."""

    stream_ids: tuple[StreamId, ...]


class OutgoingReset(NamedTuple):
    """These streams of ours are reset."""

    stream_ids: tuple[StreamId, ...]


@dataclass(slots=True)
class ResetOutcome:
    """What taking a chunk, or waiting, has led to."""

    replies: list[bytes] = field(default_factory=list)
    done: list[IncomingReset | OutgoingReset] = field(default_factory=list)


class StreamReset:
    """The requests of both sides. `pending` holds the streams of ours that are to be reset."""

    def __init__(self, initial_tsn: Tsn, peer_initial_tsn: Tsn) -> None:
        self.pending: dict[StreamId, None] = {}
        self.retry_at: Instant | None = None
        self._next_sequence = ReconfigSequenceNumber(
            initial_tsn
        )  # §4.1: request numbers start at the initial TSN.
        self._request: OutgoingSsnResetRequest | None = None
        self._attempts = 0
        self._expected_sequence = ReconfigSequenceNumber(peer_initial_tsn)
        self.deferred: OutgoingSsnResetRequest | None = None
        """A request of the peer's that waits for data that has not arrived."""
        self._last_result: int = ReconfigResult.NOTHING_TO_DO

    def build_request(
        self, idle: list[StreamId], last_assigned_tsn: ExtendedTsn, retry_at: Instant
    ) -> bytes | None:
        """Request the reset of those pending streams that are `idle`; None if that cannot be done now."""
        if self._request is not None or not idle:
            return None
        chosen = tuple(idle[:MAX_STREAMS_PER_REQUEST])
        for stream_id in chosen:
            del self.pending[stream_id]
        answered = SERIAL32.add(self._expected_sequence, -1)
        self._request = OutgoingSsnResetRequest(self._next_sequence, answered, wrap_tsn(last_assigned_tsn), chosen)
        self._next_sequence = SERIAL32.add(self._next_sequence, 1)
        self._attempts = 1
        self.retry_at = retry_at
        return ReconfigChunk((self._request,)).serialize()

    def conclude(self, stream_id: StreamId) -> tuple[StreamId, ...]:
        """The peer shows that it has performed our reset of this stream: do not wait for its response.

        Returns every stream of ours that is thereby reset: a request is performed as a whole (§5.2.2).
        """
        request = self._request
        if request is None or stream_id not in request.stream_ids:
            return ()
        self._finish(ResetOutcome())
        return request.stream_ids

    def handle_timeout(self, now: Instant, retry_at: Instant) -> ResetOutcome:
        """Send the request once more if its time has come."""
        outcome = ResetOutcome()
        if self.retry_at is None or self.retry_at > now or self._request is None:
            return outcome
        if self._attempts == MAX_ATTEMPTS:
            self._finish(outcome)
        else:
            self._attempts += 1
            self.retry_at = retry_at
            outcome.replies.append(ReconfigChunk((self._request,)).serialize())
        return outcome

    def handle_chunk(self, chunk: ReconfigChunk, cumulative_tsn: ExtendedTsn) -> ResetOutcome:
        """Take a RE-CONFIG chunk; `cumulative_tsn` is what has arrived of the peer's data."""
        outcome = ResetOutcome()
        for parameter in chunk.parameters:
            if isinstance(parameter, ReconfigResponse):
                self._handle_response(parameter, outcome)
                continue
            ahead = SERIAL32.distance(parameter.sequence, self._expected_sequence)
            if ahead == -1:
                self._reply(parameter.sequence, self._last_result, outcome)
            elif ahead:
                self._reply(parameter.sequence, ReconfigResult.ERROR_BAD_SEQUENCE_NUMBER, outcome)
            elif isinstance(parameter, OutgoingSsnResetRequest):
                self.deferred = parameter
                if not self._perform(cumulative_tsn, outcome):
                    self._reply(parameter.sequence, ReconfigResult.IN_PROGRESS, outcome)
            elif isinstance(parameter, IncomingSsnResetRequest):
                self.pending.update(dict.fromkeys(parameter.stream_ids))
                self._answer(ReconfigResult.PERFORMED if parameter.stream_ids else ReconfigResult.DENIED, outcome)
            else:
                self._answer(ReconfigResult.DENIED, outcome)
        return outcome

    def advance(self, cumulative_tsn: ExtendedTsn) -> ResetOutcome:
        """More data has arrived: perhaps a request that was in progress can be performed."""
        outcome = ResetOutcome()
        if self.deferred is not None:
            self._perform(cumulative_tsn, outcome)
        return outcome

    def _perform(self, cumulative_tsn: ExtendedTsn, outcome: ResetOutcome) -> bool:
        request = self.deferred
        assert request is not None
        # §5.2.2 E2: not before everything that was sent on the streams has arrived.
        if SERIAL32.is_newer(request.last_assigned_tsn, wrap_tsn(cumulative_tsn)):
            return False
        self.deferred = None
        outcome.done.append(IncomingReset(request.stream_ids))
        self._answer(ReconfigResult.PERFORMED, outcome)
        return True

    def _answer(self, result: ReconfigResult, outcome: ResetOutcome) -> None:
        self._last_result = result
        self._reply(self._expected_sequence, result, outcome)
        self._expected_sequence = SERIAL32.add(self._expected_sequence, 1)

    def _reply(self, sequence: ReconfigSequenceNumber, result: int, outcome: ResetOutcome) -> None:
        outcome.replies.append(ReconfigChunk((ReconfigResponse(sequence, result),)).serialize())

    def _handle_response(self, response: ReconfigResponse, outcome: ResetOutcome) -> None:
        request = self._request
        if request is None or response.sequence != request.sequence:
            return
        if response.result == ReconfigResult.IN_PROGRESS:
            self._attempts = 1  # It is asked again when `retry_at` comes.
            return
        self._finish(outcome)

    def _finish(self, outcome: ResetOutcome) -> None:
        assert self._request is not None
        outcome.done.append(OutgoingReset(self._request.stream_ids))
        self._request = None
        self.retry_at = None
