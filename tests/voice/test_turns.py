from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stack.core.errors import LocalError
from stack.voice.turns import (
    TRANSITIONS,
    Eagerness,
    TurnAction,
    TurnInput,
    TurnMode,
    TurnSettings,
    TurnState,
    TurnTaking,
)

A, S = TurnAction, TurnState


def actions(turns: TurnTaking) -> list[TurnAction]:
    return [event.action for event in turns.drain_events()]


def talking(settings: TurnSettings | None = None, at: float = 10.0) -> TurnTaking:
    """A conversation in which the agent is speaking."""
    turns = TurnTaking(settings)
    turns.create(at - 1.0)
    turns.reply_started(at)
    turns.drain_events()
    assert turns.state is S.AGENT_SPEAKING
    return turns


class TestTable:
    def test_every_state_is_there_and_can_be_reached(self):
        assert set(TRANSITIONS) == set(TurnState)
        reached = {to for rows in TRANSITIONS.values() for to, _ in rows.values()}
        assert reached == set(TurnState)

    def test_every_input_and_every_action_is_used(self):
        assert {name for rows in TRANSITIONS.values() for name in rows} == set(TurnInput)
        assert {a for rows in TRANSITIONS.values() for _, done in rows.values() for a in done} == set(TurnAction)

    def test_a_held_reply_is_always_dropped_or_resumed(self):
        held = {S.INTERRUPTED, S.HELD}
        for state in held:
            for name, (to, done) in TRANSITIONS[state].items():
                settled = A.DROP_REPLY in done or A.RESUME_PLAYOUT in done or name is TurnInput.REPLY_FINISHED
                assert (to in held) != settled, (state, name)

    def test_nothing_is_dropped_where_there_is_no_reply(self):
        for state in (S.LISTENING, S.USER_SPEAKING, S.USER_PAUSED):
            done = [a for _, row in TRANSITIONS[state].values() for a in row]
            assert not {A.DROP_REPLY, A.HOLD_PLAYOUT, A.RESUME_PLAYOUT} & set(done)


class TestOrdinaryTurn:
    def test_server_vad(self):
        turns = TurnTaking(TurnSettings(silence_duration_ms=500))
        turns.speech_started(1.0, spoken=0.08)
        assert actions(turns) == [A.OPEN_UTTERANCE]
        turns.speech_stopped(3.2, duration=2.0, silence=0.2)
        assert turns.state is S.USER_PAUSED
        assert turns.poll_timeout() == pytest.approx(3.5)
        turns.handle_timeout(3.4)
        assert actions(turns) == []
        turns.handle_timeout(3.5)
        assert actions(turns) == [A.COMMIT_UTTERANCE, A.CREATE_REPLY]
        assert turns.state is S.THINKING
        turns.reply_started(3.8)
        assert turns.state is S.AGENT_SPEAKING
        turns.reply_finished(6.0)
        assert turns.state is S.LISTENING
        assert turns.poll_timeout() is None
        assert actions(turns) == []

    def test_a_pause_inside_a_sentence_is_one_utterance(self):
        turns = TurnTaking(TurnSettings(silence_duration_ms=500))
        turns.speech_started(1.0)
        turns.speech_stopped(2.2, 1.0, 0.2)
        turns.speech_started(2.4)
        assert turns.poll_timeout() is None
        turns.speech_stopped(4.0, 1.0, 0.2)
        turns.handle_timeout(5.0)
        assert actions(turns) == [A.OPEN_UTTERANCE, A.COMMIT_UTTERANCE, A.CREATE_REPLY]

    def test_a_silence_shorter_than_the_pause_ends_the_turn_at_once(self):
        turns = TurnTaking(TurnSettings(silence_duration_ms=120))
        assert turns.settings.speech().silence_ms == 120
        turns.speech_started(1.0)
        turns.speech_stopped(2.0, 1.0, 0.12)
        assert turns.state is S.THINKING

    def test_without_create_response_the_program_decides(self):
        turns = TurnTaking(TurnSettings(create_response=False))
        turns.speech_started(1.0)
        turns.speech_stopped(2.0, 1.0, 0.6)
        assert actions(turns) == [A.OPEN_UTTERANCE, A.COMMIT_UTTERANCE]
        assert turns.state is S.LISTENING
        assert turns.create(2.1)
        assert not turns.create(2.2)
        assert actions(turns) == [A.CREATE_REPLY]

    def test_a_reply_without_a_sound(self):
        turns = TurnTaking()
        turns.create(1.0)
        turns.reply_finished(1.5)
        assert turns.state is S.LISTENING

    def test_a_program_that_greets_first(self):
        turns = TurnTaking()
        turns.reply_started(0.1)
        assert turns.state is S.AGENT_SPEAKING

    def test_idle_is_counted_from_the_end_of_playout(self):
        turns = TurnTaking(TurnSettings(idle_timeout_ms=6000))
        turns.create(1.0)
        turns.reply_started(2.0)
        assert turns.poll_timeout() is None
        turns.reply_finished(5.0)
        assert turns.poll_timeout() == pytest.approx(11.0)
        turns.handle_timeout(11.0)
        assert actions(turns) == [A.CREATE_REPLY, A.REPORT_IDLE, A.CREATE_REPLY]

    def test_speech_ends_the_idle_time(self):
        turns = TurnTaking(TurnSettings(idle_timeout_ms=6000))
        turns.reply_started(2.0)
        turns.reply_finished(5.0)
        turns.speech_started(6.0)
        assert turns.poll_timeout() is None


class TestSemantic:
    @pytest.mark.parametrize(
        ("eagerness", "longest"),
        [(Eagerness.LOW, 8), (Eagerness.MEDIUM, 4), (Eagerness.HIGH, 2), (Eagerness.AUTO, 4)],
    )
    def test_eagerness_bounds_the_wait(self, eagerness, longest):
        turns = TurnTaking(TurnSettings(mode=TurnMode.SEMANTIC, eagerness=eagerness))
        turns.speech_started(1.0)
        turns.speech_stopped(2.2, 1.0, 0.2)
        assert turns.poll_timeout() == pytest.approx(2.0 + longest)
        turns.end_of_turn_at(100.0, 2.3)
        assert turns.poll_timeout() == pytest.approx(2.0 + longest)

    def test_the_estimator_shortens_the_wait(self):
        turns = TurnTaking(TurnSettings(mode=TurnMode.SEMANTIC))
        turns.speech_started(1.0)
        turns.speech_stopped(2.2, 1.0, 0.2)
        turns.end_of_turn_at(2.6, 2.2)
        turns.handle_timeout(2.6)
        assert actions(turns) == [A.OPEN_UTTERANCE, A.COMMIT_UTTERANCE, A.CREATE_REPLY]

    def test_an_estimate_that_is_past_takes_effect_at_once(self):
        turns = TurnTaking(TurnSettings(mode=TurnMode.SEMANTIC))
        turns.speech_started(1.0)
        turns.speech_stopped(2.2, 1.0, 0.2)
        turns.end_of_turn_at(2.1, 2.3)
        assert turns.state is S.THINKING

    def test_an_estimate_that_comes_too_late_is_nothing(self):
        turns = TurnTaking(TurnSettings(mode=TurnMode.SEMANTIC))
        turns.speech_started(1.0)
        turns.speech_stopped(2.2, 1.0, 0.2)
        turns.speech_started(2.4)
        turns.end_of_turn_at(2.3, 2.5)
        assert turns.state is S.USER_SPEAKING
        server = TurnTaking()
        server.speech_started(1.0)
        server.speech_stopped(2.2, 1.0, 0.2)
        server.end_of_turn_at(2.3, 2.4)
        assert server.state is S.USER_PAUSED


class TestInterruption:
    def test_it_is_held_at_the_decision_and_dropped_when_it_goes_on(self):
        turns = talking(TurnSettings(confirm_interruption_ms=500, pause_ms=200))
        turns.speech_started(12.0, spoken=0.1)
        assert actions(turns) == [A.OPEN_UTTERANCE, A.HOLD_PLAYOUT]
        assert turns.state is S.INTERRUPTED
        assert turns.poll_timeout() == pytest.approx(12.0 - 0.1 + 0.5 + 0.2)
        turns.handle_timeout(12.6)
        assert actions(turns) == [A.DROP_REPLY]
        assert turns.state is S.USER_SPEAKING
        turns.speech_stopped(14.0, 1.9, 0.2)
        turns.handle_timeout(14.5)
        assert actions(turns) == [A.COMMIT_UTTERANCE, A.CREATE_REPLY]

    def test_a_short_one_resumes_where_it_stopped(self):
        turns = talking(TurnSettings(resume_after_ms=700))
        turns.speech_started(12.0, 0.1)
        turns.speech_stopped(12.4, duration=0.3, silence=0.2)
        assert turns.state is S.HELD
        assert turns.poll_timeout() == pytest.approx(13.1)
        turns.handle_timeout(13.1)
        assert actions(turns) == [A.OPEN_UTTERANCE, A.HOLD_PLAYOUT, A.DISCARD_UTTERANCE, A.RESUME_PLAYOUT]
        assert turns.state is S.AGENT_SPEAKING
        turns.reply_finished(20.0)
        assert turns.state is S.LISTENING

    def test_a_long_one_that_just_ended_was_meant(self):
        turns = talking()
        turns.speech_started(12.0, 0.1)
        turns.speech_stopped(12.61, duration=0.51, silence=0.2)
        assert A.DROP_REPLY in actions(turns)
        assert turns.state is S.USER_PAUSED

    def test_speaking_again_while_it_is_held(self):
        turns = talking()
        turns.speech_started(12.0, 0.1)
        turns.speech_stopped(12.4, 0.3, 0.2)
        turns.speech_started(12.8, 0.1)
        assert turns.state is S.INTERRUPTED
        turns.handle_timeout(20.0)
        assert actions(turns) == [A.OPEN_UTTERANCE, A.HOLD_PLAYOUT, A.DROP_REPLY]

    def test_the_words_confirm_a_short_one(self):
        turns = talking()
        turns.speech_started(12.0, 0.1)
        turns.speech_stopped(12.4, 0.3, 0.2)
        turns.confirm_interruption(12.5)
        assert turns.state is S.USER_PAUSED
        turns.handle_timeout(12.8)
        assert actions(turns)[2:] == [A.DROP_REPLY, A.COMMIT_UTTERANCE, A.CREATE_REPLY]

    def test_the_program_denies_one(self):
        turns = talking()
        turns.speech_started(12.0, 0.1)
        turns.deny_interruption(12.3)
        assert actions(turns)[2:] == [A.DISCARD_UTTERANCE, A.RESUME_PLAYOUT]
        assert turns.state is S.AGENT_SPEAKING
        turns.handle_timeout(15.0)
        turns.speech_stopped(15.0, 3.0, 0.2)
        assert turns.state is S.AGENT_SPEAKING
        assert actions(turns) == []

    def test_final_at_once_if_nothing_is_ever_resumed(self):
        turns = talking(TurnSettings(resume_after_ms=None))
        turns.speech_started(12.0, 0.1)
        assert actions(turns) == [A.OPEN_UTTERANCE, A.HOLD_PLAYOUT, A.DROP_REPLY]
        assert turns.state is S.USER_SPEAKING

    def test_a_reply_that_is_not_yet_heard_is_held_too_and_comes_back_as_thought(self):
        turns = TurnTaking()
        turns.create(1.0)
        turns.drain_events()
        turns.speech_started(2.0, 0.1)
        turns.speech_stopped(2.3, 0.2, 0.2)
        turns.handle_timeout(5.0)
        assert actions(turns) == [A.OPEN_UTTERANCE, A.HOLD_PLAYOUT, A.DISCARD_UTTERANCE, A.RESUME_PLAYOUT]
        assert turns.state is S.THINKING
        turns.speech_started(6.0, 0.1)
        turns.reply_started(6.1)
        turns.speech_stopped(6.3, 0.2, 0.2)
        turns.handle_timeout(9.0)
        assert turns.state is S.AGENT_SPEAKING

    def test_longer_speech_is_asked_for_over_a_reply(self):
        rules = TurnSettings(minimum_interruption_ms=250)
        assert rules.speech(over_reply=True).minimum_speech_ms == 250
        assert rules.speech().minimum_speech_ms == 64

    def test_a_cancel_is_final(self):
        turns = talking()
        assert turns.cancel(11.0)
        assert actions(turns) == [A.DROP_REPLY]
        assert not turns.cancel(11.1)
        assert actions(turns) == []
        assert turns.poll_timeout() is None

    def test_where_interruptions_are_not_allowed_the_turn_is_taken_down_and_the_reply_goes_on(self):
        turns = talking(TurnSettings(interrupt_response=False, silence_duration_ms=500))
        turns.speech_started(12.0, 0.1)
        assert turns.state is S.OVERLAP
        turns.speech_stopped(13.0, 0.9, 0.2)
        turns.speech_started(13.1, 0.1)
        turns.handle_timeout(13.4)
        turns.speech_stopped(14.0, 0.9, 0.2)
        turns.handle_timeout(14.3)
        assert actions(turns) == [A.OPEN_UTTERANCE, A.COMMIT_UTTERANCE]
        assert turns.state is S.AGENT_SPEAKING

    def test_a_reply_that_ends_in_a_pause_of_the_user_leaves_the_turn_to_end(self):
        turns = talking(TurnSettings(interrupt_response=False, silence_duration_ms=500))
        turns.speech_started(12.0, 0.1)
        turns.speech_stopped(13.0, 0.9, 0.2)
        turns.reply_finished(13.1)
        assert turns.state is S.USER_PAUSED
        turns.handle_timeout(13.3)
        assert actions(turns) == [A.OPEN_UTTERANCE, A.COMMIT_UTTERANCE, A.CREATE_REPLY]


class TestManual:
    def rules(self, **more):
        return TurnSettings(mode=TurnMode.MANUAL, **more)

    def test_push_to_talk(self):
        turns = talking(self.rules())
        turns.speech_started(11.0)
        assert turns.state is S.AGENT_SPEAKING
        turns.push_to_talk(True, 12.0)
        assert actions(turns) == [A.OPEN_UTTERANCE, A.HOLD_PLAYOUT, A.DROP_REPLY]
        turns.speech_stopped(13.0, 1.0)
        assert turns.state is S.USER_SPEAKING
        turns.push_to_talk(False, 14.0)
        assert actions(turns) == [A.COMMIT_UTTERANCE, A.CREATE_REPLY]
        assert turns.poll_timeout() is None

    def test_a_key_that_was_never_down_commits_nothing(self):
        turns = TurnTaking(self.rules())
        turns.push_to_talk(False, 1.0)
        assert actions(turns) == []
        server = TurnTaking()
        server.push_to_talk(True, 1.0)
        assert actions(server) == []

    def test_commit_and_create_as_the_dialect_does(self):
        turns = TurnTaking(self.rules(create_response=False))
        turns.commit(1.0)
        turns.create(1.1)
        assert actions(turns) == [A.COMMIT_UTTERANCE, A.CREATE_REPLY]
        turns.clear(1.2)
        assert actions(turns) == [A.DISCARD_UTTERANCE]
        assert turns.state is S.THINKING


class TestChanges:
    def test_full_duplex_has_no_turns(self):
        turns = TurnTaking(TurnSettings(mode=TurnMode.FULL_DUPLEX))
        turns.speech_started(1.0)
        turns.speech_stopped(2.0, 1.0)
        turns.handle_timeout(20.0)
        assert actions(turns) == []
        assert turns.state is S.LISTENING

    def test_to_full_duplex_in_the_middle_of_an_interruption(self):
        turns = talking()
        turns.speech_started(12.0, 0.1)
        turns.drain_events()
        turns.configure(TurnSettings(mode=TurnMode.FULL_DUPLEX), 12.1)
        assert actions(turns) == [A.DISCARD_UTTERANCE, A.RESUME_PLAYOUT]
        assert turns.state is S.AGENT_SPEAKING
        assert turns.poll_timeout() is None

    def test_to_manual_while_the_user_pauses_waits_for_the_commit(self):
        turns = TurnTaking()
        turns.speech_started(1.0)
        turns.speech_stopped(2.0, 1.0, 0.2)
        turns.configure(TurnSettings(mode=TurnMode.MANUAL), 2.1)
        turns.handle_timeout(60.0)
        assert turns.state is S.USER_PAUSED
        turns.commit(61.0)
        assert actions(turns) == [A.OPEN_UTTERANCE, A.COMMIT_UTTERANCE, A.CREATE_REPLY]

    def test_from_manual_the_speech_detector_is_believed(self):
        turns = TurnTaking(TurnSettings(mode=TurnMode.MANUAL))
        turns.push_to_talk(True, 1.0)
        turns.configure(TurnSettings(), 2.0, speaking=False)
        assert turns.state is S.USER_PAUSED
        assert turns.poll_timeout() == pytest.approx(2.5)
        other = TurnTaking(TurnSettings(mode=TurnMode.MANUAL))
        other.configure(TurnSettings(), 2.0, speaking=True)
        assert other.state is S.USER_SPEAKING

    def test_a_deadline_is_counted_anew(self):
        turns = TurnTaking(TurnSettings(silence_duration_ms=2000))
        turns.speech_started(1.0)
        turns.speech_stopped(2.2, 1.0, 0.2)
        assert turns.poll_timeout() == pytest.approx(4.0)
        turns.configure(TurnSettings(silence_duration_ms=700), 2.3)
        assert turns.poll_timeout() == pytest.approx(2.7)
        turns.configure(TurnSettings(silence_duration_ms=200), 2.4)
        assert turns.state is S.THINKING

    def test_a_held_reply_is_settled_when_holding_is_switched_off(self):
        turns = talking()
        turns.speech_started(12.0, 0.1)
        turns.speech_stopped(12.4, 0.3, 0.2)
        turns.configure(TurnSettings(resume_after_ms=None), 12.5)
        assert turns.state is S.USER_PAUSED
        assert actions(turns)[-1] is A.DROP_REPLY

    @pytest.mark.parametrize("bad", [{"silence_duration_ms": -1}, {"threshold": 0.0}, {"idle_timeout_ms": -5}])
    def test_settings_that_make_no_sense(self, bad):
        with pytest.raises(LocalError):
            TurnSettings(**bad)

    @pytest.mark.parametrize("name", ["expects", "eagerness", "mode"])
    def test_a_choice_that_is_none_is_named_with_those_there_are(self, name):
        with pytest.raises(LocalError, match=rf"{name} is one of .*\..*, not 'address'"):
            TurnSettings(**{name: "address"})


RULES = st.builds(
    TurnSettings,
    mode=st.sampled_from(TurnMode),
    idle_timeout_ms=st.sampled_from([None, 0.0, 3000.0]),
    create_response=st.booleans(),
    interrupt_response=st.booleans(),
    confirm_interruption_ms=st.sampled_from([0.0, 500.0]),
    resume_after_ms=st.sampled_from([None, 0.0, 700.0]),
    silence_duration_ms=st.sampled_from([0.0, 500.0]),
)


class Conversation(RuleBasedStateMachine):
    """Whatever order things happen in: utterances and replies are opened and closed in pairs."""

    def __init__(self):
        super().__init__()
        self.now, self.turns = 0.0, TurnTaking()
        self.open = self.held = False

    def pump(self):
        for event in self.turns.drain_events():
            match event.action:
                case A.OPEN_UTTERANCE:
                    self.open = True
                case A.COMMIT_UTTERANCE | A.DISCARD_UTTERANCE:
                    self.open = False
                case A.HOLD_PLAYOUT:
                    assert not self.held
                    self.held = True
                case A.RESUME_PLAYOUT:
                    assert self.held
                    self.held = False
                case A.DROP_REPLY:
                    self.held = False

    @rule(step=st.floats(0.0, 5.0))
    def wait(self, step):
        self.now += step
        self.turns.handle_timeout(self.now)
        due = self.turns.poll_timeout()
        assert due is None or due > self.now
        self.pump()

    @rule(rules=RULES, speaking=st.booleans())
    def configure(self, rules, speaking):
        self.turns.configure(rules, self.now, speaking)
        self.pump()

    @rule(name=st.sampled_from(["create", "cancel", "commit", "clear", "reply_started", "deny_interruption"]))
    def command(self, name):
        getattr(self.turns, name)(self.now)
        self.pump()

    @rule(pressed=st.booleans())
    def key(self, pressed):
        self.turns.push_to_talk(pressed, self.now)
        self.pump()

    @precondition(lambda self: not self.held)
    @rule()
    def reply_finished(self):
        self.turns.reply_finished(self.now)
        self.pump()

    @rule(spoken=st.floats(0.0, 0.3))
    def speech_started(self, spoken):
        self.turns.speech_started(self.now, spoken)
        self.pump()

    @rule(duration=st.floats(0.0, 2.0))
    def speech_stopped(self, duration):
        self.turns.speech_stopped(self.now, duration)
        self.pump()

    @rule(wait=st.floats(-1.0, 10.0))
    def estimate(self, wait):
        self.turns.end_of_turn_at(self.now + wait, self.now)
        self.pump()

    @invariant()
    def state_and_owner_agree(self):
        assert self.held == (self.turns.state in (S.INTERRUPTED, S.HELD))
        if self.turns.state in (S.LISTENING, S.THINKING, S.AGENT_SPEAKING):
            assert not self.open


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@settings(max_examples=40, deadline=None)
@given(RULES, st.lists(st.floats(0.05, 3.0), min_size=4, max_size=12))
def test_waking_late_gives_the_same_actions(rules, gaps):
    """A loop that was busy may not change what happens, only when."""
    outcomes = []
    for lag in (0.0, 0.01):
        turns, now = TurnTaking(rules), 0.0
        for index, gap in enumerate(gaps):
            if index % 2:
                turns.speech_stopped(now, gap)
            else:
                turns.speech_started(now)
            now += gap
            while (due := turns.poll_timeout()) is not None and due + 0.02 <= now:
                turns.handle_timeout(due + lag)
        outcomes.append(actions(turns))
    assert outcomes[0] == outcomes[1]


def test_events_say_why():
    turns = talking()
    turns.speech_started(12.0, 0.1)
    turns.handle_timeout(13.0)
    events = turns.drain_events()
    assert [event.cause for event in events] == [TurnInput.SPEECH_STARTED, TurnInput.BARGE_IN, TurnInput.CONFIRMED]
    assert all(a.state is not b.state for a, b in pairwise(events))
