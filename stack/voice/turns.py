"""Whose turn it is: one literal table of states and inputs, and the few deadlines that feed it.

Inputs are what the detectors hear, what the program does and what the client commands; actions are what the owner
has to do with the utterance that is being recorded and with the reply that is being played. A pair that the table
does not name changes nothing: it is a race that one side lost (a stop after the turn was committed, a cancel with
nothing to cancel).

An interruption has two steps. `HOLD_PLAYOUT` comes at the decision: from then on no packet leaves, and what was
not sent is kept. Then either `DROP_REPLY` (it was meant: the user went on, or said something) or `RESUME_PLAYOUT`
(it was a cough or an "mm-hm": the reply goes on where it stopped). With `resume_after_ms=None` every interruption
is final at once.

Each state has at most one deadline, and it dies with the state. Left out: who is right when two people talk at
once for long (the person is), and several persons in one call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from stack.core.errors import LocalError
from stack.core.machine import Instant
from stack.core.timers import Timers
from stack.voice.vad import SpeechSettings


class TurnMode(Enum):
    """How it is found out that a turn is over."""

    SERVER_VAD = "server_vad"
    """After a fixed time of silence."""
    SEMANTIC = "semantic_vad"
    """When an estimator thinks so, within the bounds that the eagerness sets."""
    MANUAL = "manual"
    """When the client says so: push to talk."""
    FULL_DUPLEX = "full_duplex"
    """Never: both may speak at any time."""


class Eagerness(Enum):
    """How long a semantic turn may be waited for."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    AUTO = "auto"

    @property
    def longest_wait(self) -> float:
        """Seconds of silence after which the turn is over whatever the estimator says."""
        return {Eagerness.LOW: 8.0, Eagerness.MEDIUM: 4.0, Eagerness.HIGH: 2.0, Eagerness.AUTO: 4.0}[self]


class Expects(Enum):
    """How long an answer the program has asked for, which moves the waits of a semantic turn."""

    SHORT = "short"
    """Yes or no, a name, one number."""
    ANY = "any"
    LONG = "long"
    """An address, a telephone number, a list, a story: pauses are part of it."""


class TurnState(Enum):
    """In the order of an ordinary turn."""

    LISTENING = "listening"
    """Neither side speaks and nothing is owed."""
    USER_SPEAKING = "user_speaking"
    USER_PAUSED = "user_paused"
    """The user is silent, and it is not yet sure that the turn is over."""
    THINKING = "thinking"
    """The program owes a reply; nothing of it is to be heard yet."""
    AGENT_SPEAKING = "agent_speaking"
    OVERLAP = "overlap"
    """Both speak, and the reply goes on: interruptions are not allowed, or the program wanted it so."""
    INTERRUPTED = "interrupted"
    """The user speaks and the reply is held."""
    HELD = "held"
    """The reply is still held although the user is silent again: was it meant?"""


class TurnInput(Enum):
    """What can happen. The names of deadlines are inputs as well: a timer is the input that it will become."""

    SPEECH_STARTED = "speech_started"
    SPEECH_STOPPED = "speech_stopped"
    END_OF_TURN = "end_of_turn"
    BARGE_IN = "barge_in"
    """Speech over the reply may stop it."""
    CONFIRMED = "interruption_confirmed"
    FALSE_INTERRUPTION = "false_interruption"
    CREATE = "create"
    """A reply is wanted."""
    REPLY_STARTED = "reply_started"
    """The first of its sound is there."""
    REPLY_FINISHED = "reply_finished"
    """Written whole and played out, or ended without a sound."""
    CANCEL = "cancel"
    COMMIT = "commit"
    CLEAR = "clear"
    IDLE_TIMEOUT = "idle_timeout"


class TurnAction(Enum):
    """What the owner has to do."""

    OPEN_UTTERANCE = "open_utterance"
    """Begin to collect the user's speech, prefix padding included."""
    COMMIT_UTTERANCE = "commit_utterance"
    """The utterance is whole: hand it over."""
    DISCARD_UTTERANCE = "discard_utterance"
    CREATE_REPLY = "create_reply"
    HOLD_PLAYOUT = "hold_playout"
    """No further packet of the reply may leave; keep what was not sent."""
    RESUME_PLAYOUT = "resume_playout"
    """Go on with the first sample that was not sent."""
    DROP_REPLY = "drop_reply"
    """No further packet, drop what is queued, cancel the program's reply, compute what was heard."""
    REPORT_IDLE = "report_idle"
    """Neither side has said anything since the reply ended."""


_Row: TypeAlias = tuple[TurnState, tuple[TurnAction, ...]]

_S, _I, _A = TurnState, TurnInput, TurnAction

TRANSITIONS: Final[Mapping[TurnState, Mapping[TurnInput, _Row]]] = {
    _S.LISTENING: {
        _I.SPEECH_STARTED: (_S.USER_SPEAKING, (_A.OPEN_UTTERANCE,)),
        _I.CREATE: (_S.THINKING, (_A.CREATE_REPLY,)),
        _I.REPLY_STARTED: (_S.AGENT_SPEAKING, ()),
        _I.COMMIT: (_S.LISTENING, (_A.COMMIT_UTTERANCE,)),
        _I.CLEAR: (_S.LISTENING, (_A.DISCARD_UTTERANCE,)),
        _I.IDLE_TIMEOUT: (_S.LISTENING, (_A.REPORT_IDLE,)),
    },
    _S.USER_SPEAKING: {
        _I.SPEECH_STOPPED: (_S.USER_PAUSED, ()),
        _I.CREATE: (_S.OVERLAP, (_A.CREATE_REPLY,)),
        _I.REPLY_STARTED: (_S.OVERLAP, ()),
        _I.COMMIT: (_S.LISTENING, (_A.COMMIT_UTTERANCE,)),
        _I.CLEAR: (_S.LISTENING, (_A.DISCARD_UTTERANCE,)),
    },
    _S.USER_PAUSED: {
        _I.SPEECH_STARTED: (_S.USER_SPEAKING, ()),
        _I.END_OF_TURN: (_S.LISTENING, (_A.COMMIT_UTTERANCE,)),
        _I.CREATE: (_S.THINKING, (_A.COMMIT_UTTERANCE, _A.CREATE_REPLY)),
        _I.REPLY_STARTED: (_S.AGENT_SPEAKING, (_A.COMMIT_UTTERANCE,)),
        _I.COMMIT: (_S.LISTENING, (_A.COMMIT_UTTERANCE,)),
        _I.CLEAR: (_S.LISTENING, (_A.DISCARD_UTTERANCE,)),
    },
    _S.THINKING: {
        _I.SPEECH_STARTED: (_S.OVERLAP, (_A.OPEN_UTTERANCE,)),
        _I.REPLY_STARTED: (_S.AGENT_SPEAKING, ()),
        _I.REPLY_FINISHED: (_S.LISTENING, ()),
        _I.CANCEL: (_S.LISTENING, (_A.DROP_REPLY,)),
        _I.COMMIT: (_S.THINKING, (_A.COMMIT_UTTERANCE,)),
        _I.CLEAR: (_S.THINKING, (_A.DISCARD_UTTERANCE,)),
    },
    _S.AGENT_SPEAKING: {
        _I.SPEECH_STARTED: (_S.OVERLAP, (_A.OPEN_UTTERANCE,)),
        _I.REPLY_FINISHED: (_S.LISTENING, ()),
        _I.CANCEL: (_S.LISTENING, (_A.DROP_REPLY,)),
        _I.COMMIT: (_S.AGENT_SPEAKING, (_A.COMMIT_UTTERANCE,)),
        _I.CLEAR: (_S.AGENT_SPEAKING, (_A.DISCARD_UTTERANCE,)),
    },
    _S.OVERLAP: {
        _I.BARGE_IN: (_S.INTERRUPTED, (_A.HOLD_PLAYOUT,)),
        _I.END_OF_TURN: (_S.THINKING, (_A.COMMIT_UTTERANCE,)),
        _I.REPLY_FINISHED: (_S.USER_SPEAKING, ()),
        _I.CANCEL: (_S.USER_SPEAKING, (_A.DROP_REPLY,)),
        _I.COMMIT: (_S.THINKING, (_A.COMMIT_UTTERANCE,)),
        _I.CLEAR: (_S.THINKING, (_A.DISCARD_UTTERANCE,)),
    },
    _S.INTERRUPTED: {
        _I.SPEECH_STOPPED: (_S.HELD, ()),
        _I.CONFIRMED: (_S.USER_SPEAKING, (_A.DROP_REPLY,)),
        _I.FALSE_INTERRUPTION: (_S.THINKING, (_A.DISCARD_UTTERANCE, _A.RESUME_PLAYOUT)),
        _I.REPLY_FINISHED: (_S.USER_SPEAKING, ()),
        _I.CANCEL: (_S.USER_SPEAKING, (_A.DROP_REPLY,)),
        _I.COMMIT: (_S.LISTENING, (_A.DROP_REPLY, _A.COMMIT_UTTERANCE)),
        _I.CLEAR: (_S.THINKING, (_A.DISCARD_UTTERANCE, _A.RESUME_PLAYOUT)),
    },
    _S.HELD: {
        _I.SPEECH_STARTED: (_S.INTERRUPTED, ()),
        _I.CONFIRMED: (_S.USER_PAUSED, (_A.DROP_REPLY,)),
        _I.FALSE_INTERRUPTION: (_S.THINKING, (_A.DISCARD_UTTERANCE, _A.RESUME_PLAYOUT)),
        _I.REPLY_FINISHED: (_S.USER_PAUSED, ()),
        _I.CANCEL: (_S.USER_PAUSED, (_A.DROP_REPLY,)),
        _I.COMMIT: (_S.LISTENING, (_A.DROP_REPLY, _A.COMMIT_UTTERANCE)),
        _I.CLEAR: (_S.THINKING, (_A.DISCARD_UTTERANCE, _A.RESUME_PLAYOUT)),
    },
}
"""Rows that lead back to a reply lead to THINKING; `TurnTaking` says REPLY_STARTED again if it had been heard."""

_REPLY_LIVE = frozenset({_S.THINKING, _S.AGENT_SPEAKING, _S.OVERLAP, _S.INTERRUPTED, _S.HELD})
_ASKS = frozenset({_I.END_OF_TURN, _I.COMMIT, _I.IDLE_TIMEOUT})
_USER_LIVE = frozenset({_S.USER_SPEAKING, _S.USER_PAUSED, _S.OVERLAP, _S.INTERRUPTED, _S.HELD})


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """Names, units and defaults as in the clients' dialects where they have them; milliseconds."""

    mode: TurnMode = TurnMode.SERVER_VAD
    threshold: float = 0.5
    """Probability from which a frame is speech."""
    prefix_padding_ms: float = 300.0
    silence_duration_ms: float = 500.0
    """`server_vad`: silence that ends the turn."""
    idle_timeout_ms: float | None = None
    """Silence after the end of playout that is reported; None: never."""
    create_response: bool = True
    """A turn that is over asks for a reply."""
    interrupt_response: bool = True
    """Speech stops the reply."""
    eagerness: Eagerness = Eagerness.AUTO
    minimum_interruption_ms: float = 80.0
    """Speech over the reply that is shorter than this does not even hold it."""
    confirm_interruption_ms: float = 500.0
    """Speech over the reply that is at least this long was meant."""
    resume_after_ms: float | None = 700.0
    """Silence after a shorter interruption, after which the reply goes on; None: every interruption is final."""
    pause_ms: float = 200.0
    """Silence after which speech has stopped for the moment: the earliest that a turn can end."""
    expects: Expects = Expects.ANY
    """`semantic`: how long an answer is expected; a program says so with its question."""

    def __post_init__(self) -> None:
        durations = (
            self.prefix_padding_ms,
            self.silence_duration_ms,
            self.minimum_interruption_ms,
            self.confirm_interruption_ms,
            self.pause_ms,
            self.idle_timeout_ms or 0.0,
            self.resume_after_ms or 0.0,
        )
        if min(durations) < 0.0:
            raise LocalError("durations of turn detection cannot be negative")
        if not 0.0 < self.threshold <= 1.0:
            raise LocalError("the threshold of turn detection must be in (0, 1]")
        for name, value, kind in (
            ("mode", self.mode, TurnMode),
            ("eagerness", self.eagerness, Eagerness),
            ("expects", self.expects, Expects),
        ):
            if not isinstance(value, kind):
                choices = ", ".join(f"{kind.__name__}.{each.name}" for each in kind)
                raise LocalError(f"{name} is one of {choices}, not {value!r}")

    @property
    def pause(self) -> float:
        """Seconds of silence after which the speech detector is to say that speech stopped."""
        if self.mode is TurnMode.SERVER_VAD:
            return min(self.pause_ms, self.silence_duration_ms) / 1000.0
        return self.pause_ms / 1000.0

    @property
    def longest_wait(self) -> float:
        """Seconds of silence after which a turn is over."""
        if self.mode is TurnMode.SERVER_VAD:
            return self.silence_duration_ms / 1000.0
        return self.eagerness.longest_wait

    @property
    def hears(self) -> bool:
        """True if speech moves the turn."""
        return self.mode in (TurnMode.SERVER_VAD, TurnMode.SEMANTIC)

    def speech(self, over_reply: bool = False) -> SpeechSettings:
        """Return what the speech detector has to do for these turns, while a reply is audible or not."""
        base = SpeechSettings()
        minimum = max(base.minimum_speech_ms, self.minimum_interruption_ms if over_reply else 0.0)
        return SpeechSettings(
            self.threshold, base.hysteresis, self.prefix_padding_ms, minimum, self.pause * 1000.0
        )


class TurnEvent(NamedTuple):
    """One thing to do, and how it came about."""

    action: TurnAction
    cause: TurnInput
    state: TurnState
    """The state that was reached."""


class TurnTaking:
    """The table at work. A machine without a network: every input takes `now`; pump the events after each one."""

    def __init__(self, settings: TurnSettings | None = None) -> None:
        self._settings = settings or TurnSettings()
        self._state = TurnState.LISTENING
        self._timers: Timers[TurnInput] = Timers()
        self._events: list[TurnEvent] = []
        self._audible = False
        self.onset: Instant | None = None
        """When the speech began that runs or ran last, by the clock of its arrival."""
        self.quiet_since: Instant = 0.0
        """When it fell silent."""

    @property
    def state(self) -> TurnState:
        """Where the conversation is."""
        return self._state

    @property
    def settings(self) -> TurnSettings:
        """What applies now; exchanged by `configure`."""
        return self._settings

    # What is heard.

    def speech_started(self, now: Instant, spoken: float = 0.0) -> None:
        """Speech is certain; it began `spoken` seconds ago."""
        self.onset = now - spoken
        if not self._settings.hears:
            return
        if self._state is TurnState.OVERLAP:
            self._timers.clear(TurnInput.END_OF_TURN)
        self._feed(TurnInput.SPEECH_STARTED, now)

    def speech_stopped(self, now: Instant, duration: float, silence: float | None = None) -> None:
        """It is quiet after `duration` seconds of speech, and has been for `silence` seconds."""
        self.quiet_since = now - (self._settings.pause if silence is None else silence)
        if not self._settings.hears:
            return
        if self._state is TurnState.OVERLAP:
            self._arm(TurnInput.END_OF_TURN, now)
            return
        if self._state is TurnState.INTERRUPTED and duration >= self._settings.confirm_interruption_ms / 1000.0:
            self._feed(TurnInput.CONFIRMED, now)
        self._feed(TurnInput.SPEECH_STOPPED, now)

    def end_of_turn_at(self, at: Instant, now: Instant) -> None:
        """An estimator says when the present pause will have been the end, if it lasts; `semantic` mode only."""
        if self._settings.mode is TurnMode.SEMANTIC and self._state is TurnState.USER_PAUSED:
            latest = self.quiet_since + self._settings.longest_wait
            self._timers.set(TurnInput.END_OF_TURN, max(now, min(at, latest)))
            self.handle_timeout(now)

    def confirm_interruption(self, now: Instant) -> None:
        """It was meant: the words are known, or the program says so."""
        self._feed(TurnInput.CONFIRMED, now)

    def deny_interruption(self, now: Instant) -> None:
        """It was not meant: the reply goes on, and what is left of this speech will not stop it again."""
        self._feed(TurnInput.FALSE_INTERRUPTION, now)

    # What the program does.

    def reply_started(self, now: Instant) -> None:
        """The first sound of a reply is there."""
        self._audible = True
        self._feed(TurnInput.REPLY_STARTED, now)

    def reply_finished(self, now: Instant) -> None:
        """The reply was written whole and played out, or it ended without a sound."""
        self._audible = False
        self._feed(TurnInput.REPLY_FINISHED, now)

    # What the client or the program commands.

    def push_to_talk(self, pressed: bool, now: Instant) -> None:
        """The key went down (which interrupts) or up (which commits); `manual` mode only."""
        if self._settings.mode is not TurnMode.MANUAL:
            return
        if pressed:
            self.onset = now
            for name in (TurnInput.SPEECH_STARTED, TurnInput.BARGE_IN, TurnInput.CONFIRMED):
                self._feed(name, now)
        elif self._state in _USER_LIVE:
            self.commit(now)

    def commit(self, now: Instant) -> None:
        """The utterance is over, whatever the detectors think."""
        self._feed(TurnInput.COMMIT, now)

    def clear(self, now: Instant) -> None:
        """Forget the utterance."""
        self._feed(TurnInput.CLEAR, now)

    def create(self, now: Instant) -> bool:
        """Ask for a reply; False if there is one already."""
        if self._state in _REPLY_LIVE:
            return False
        self._feed(TurnInput.CREATE, now)
        return True

    def cancel(self, now: Instant) -> bool:
        """Drop the reply; False if there is none."""
        live = self._state in _REPLY_LIVE
        self._feed(TurnInput.CANCEL, now)
        return live

    def configure(self, settings: TurnSettings, now: Instant, speaking: bool = False) -> None:
        """Change the rules in the middle of the call; `speaking` is what the speech detector thinks.

        Deadlines are counted anew under the new rules.
        """
        before, self._settings = self._settings, settings
        if settings.mode is TurnMode.FULL_DUPLEX and self._state in _USER_LIVE:
            self._feed(TurnInput.CLEAR, now)
        elif not (settings.hears and settings.interrupt_response):
            self._feed(TurnInput.FALSE_INTERRUPTION, now)
        elif settings.resume_after_ms is None:
            self._feed(TurnInput.CONFIRMED, now)
        armed = self._timers.why()
        self._timers.clear_all()
        self._arm(armed, now)
        if settings.hears and not before.hears:
            if speaking:
                self.speech_started(now)
            else:
                self.speech_stopped(now, duration=0.0, silence=0.0)

    # Time.

    def handle_timeout(self, now: Instant) -> None:
        """Feed the deadline that has passed, and those that are due because of it."""
        while due := self._timers.pop_due(now):
            for name in due:
                self._feed(name, now)

    def poll_timeout(self) -> Instant | None:
        """When `handle_timeout` wants to be called."""
        return self._timers.next

    def drain_events(self) -> Sequence[TurnEvent]:
        """Everything that is to be done, in order."""
        events, self._events = self._events, []
        return events

    def _feed(self, name: TurnInput, now: Instant) -> None:
        row = TRANSITIONS[self._state].get(name)
        if row is None:
            return
        before, (self._state, actions) = self._state, row
        if TurnAction.DROP_REPLY in actions or TurnAction.CREATE_REPLY in actions:
            self._audible = False
        self._events.extend(TurnEvent(action, name, self._state) for action in actions)
        if self._state is not before:
            quiet = self._timers.is_set(TurnInput.END_OF_TURN)
            self._timers.clear_all()
            self._enter(before, name, quiet, now)
        if name in _ASKS and self._settings.create_response and self._state is TurnState.LISTENING:
            self._feed(TurnInput.CREATE, now)

    def _enter(self, before: TurnState, cause: TurnInput, quiet: bool, now: Instant) -> None:
        """Arm the deadline of the state that was reached; tell it what happened before it was there."""
        if self._state is TurnState.THINKING and self._audible:
            self._feed(TurnInput.REPLY_STARTED, now)
        elif before is TurnState.OVERLAP and self._state is TurnState.USER_SPEAKING and quiet:
            self._feed(TurnInput.SPEECH_STOPPED, now)
        elif self._state is TurnState.USER_PAUSED:
            self._arm(TurnInput.END_OF_TURN, now)
        elif self._state is TurnState.OVERLAP and cause is TurnInput.SPEECH_STARTED:
            self._arm(TurnInput.BARGE_IN, now)
        elif self._state is TurnState.INTERRUPTED:
            self._arm(TurnInput.CONFIRMED, now)
        elif self._state is TurnState.HELD:
            self._arm(TurnInput.FALSE_INTERRUPTION, now)
        elif self._state is TurnState.LISTENING and cause is TurnInput.REPLY_FINISHED:
            self._arm(TurnInput.IDLE_TIMEOUT, now)

    def _arm(self, name: TurnInput | None, now: Instant) -> None:
        """Arm the deadline `name` as the settings want it; one that is due already is fed at once."""
        rules = self._settings
        if name is None or (not rules.hears and name is not TurnInput.IDLE_TIMEOUT):
            return
        at: Instant | None = None
        if name is TurnInput.END_OF_TURN:
            at = self.quiet_since + rules.longest_wait
        elif name is TurnInput.BARGE_IN and rules.interrupt_response:
            at = now
        elif name is TurnInput.CONFIRMED:
            # Silence is reported a pause late: only then is it certain that the speech went on for so long.
            wait = rules.confirm_interruption_ms / 1000.0 + rules.pause
            at = now if rules.resume_after_ms is None or self.onset is None else self.onset + wait
        elif name is TurnInput.FALSE_INTERRUPTION and rules.resume_after_ms is not None:
            at = now + rules.resume_after_ms / 1000.0
        elif name is TurnInput.IDLE_TIMEOUT and rules.idle_timeout_ms is not None:
            at = now + rules.idle_timeout_ms / 1000.0
        if at is not None:
            self._timers.set(name, at)
            self.handle_timeout(now)
