import numpy as np
import pytest

from stack.voice.echo import EchoReport, EchoState
from stack.voice.playout_record import MAX_AGE, MAX_RECORD, PlayoutPosition, PlayoutRecord
from stack.voice.speech_front_end import SpeechFrontEnd
from stack.voice.turns import TurnSettings
from stack.voice.vad import SpeechStarted, SpeechStopped, VoiceFrame

RATE = 24_000
PACKET = 480


def record(packets: int = 100, start: float = 10.0) -> PlayoutRecord:
    """A reply that has been leaving in packets of 20 ms since `start`."""
    sent = PlayoutRecord(RATE)
    sent.begin_reply()
    for index in range(packets):
        sent.sent(70_000 + index, index * PACKET, PACKET, start + index * 0.02, timestamp(index))
    return sent


def timestamp(index: int) -> int:
    """Of packet `index` of `record`; the RTP clock wraps in the middle of it."""
    return (2**32 - 50 * 960 + index * 960) % 2**32


class TestPlayoutRecord:
    def test_what_the_client_keeps_back_was_not_heard(self):
        heard = record(100).heard(12.0, playout_delay=0.08)
        assert heard.milliseconds == pytest.approx(1920.0)
        assert heard.sent == 48_000
        assert heard.samples == 46_080

    def test_between_two_packets(self):
        assert record(100).heard(11.013, 0.0).milliseconds == pytest.approx(1013.0)

    def test_a_client_that_is_not_told_plays_all(self):
        assert record(100).heard(11.99, 0.2, silenced=False).milliseconds == pytest.approx(2000.0)

    def test_never_more_than_left_and_never_less_than_nothing(self):
        assert record(10).heard(60.0, 0.1).samples == 10 * PACKET
        assert record(10).heard(10.0, 0.3).samples == 0
        assert PlayoutRecord(RATE).heard(1.0, 0.1) == PlayoutPosition(0, 0, 0, 0.0)

    def test_a_pause_in_the_reply_is_not_heard_twice(self):
        sent = record(10)
        for index in range(10, 20):
            sent.sent(70_000 + index, index * PACKET, PACKET, 13.0 + (index - 10) * 0.02)
        assert sent.heard(12.0, 0.0).milliseconds == pytest.approx(200.0)
        assert sent.heard(13.1, 0.0).milliseconds == pytest.approx(300.0)

    def test_what_is_said_again_counts_from_where_it_goes_on(self):
        sent = record(10)
        sent.resume(5 * PACKET)
        sent.sent(70_010, 5 * PACKET, PACKET, 10.3)
        assert sent.heard(10.3, 0.1) == PlayoutPosition(5 * PACKET, 6 * PACKET, 0, pytest.approx(100.0))
        assert sent.heard(10.31, 0.0).samples == 5 * PACKET + PACKET // 2

    def test_reports_that_keep_up_change_nothing(self):
        sent = record(100)
        sent.acknowledged(70_000 + 93, 11.98, round_trip=0.1)
        heard = sent.heard(11.98, 0.08)
        assert heard.milliseconds == pytest.approx(1900.0)
        assert heard.acknowledged == 94 * PACKET

    def test_a_stalled_path_was_not_heard(self):
        sent = record(100)
        sent.acknowledged(70_000 + 43, 11.98, round_trip=0.1)
        assert sent.heard(11.98, 0.08).milliseconds == pytest.approx(900.0, abs=20.0)
        assert sent.heard(11.98, 0.08, silenced=False).milliseconds == pytest.approx(1000.0, abs=20.0)

    def test_a_report_from_before_the_reply_says_nothing(self):
        sent = record(100)
        sent.acknowledged(69_000, 10.05, round_trip=0.1)
        assert sent.heard(11.98, 0.08).milliseconds == pytest.approx(1900.0)

    def test_an_old_report_is_no_news(self):
        sent = record(100)
        sent.acknowledged(70_000 + 10, 10.9, round_trip=0.1)
        assert sent.heard(13.5, 0.0).milliseconds == pytest.approx(2000.0)

    def test_a_new_reply_counts_from_zero(self):
        sent = record(100)
        sent.begin_reply()
        sent.sent(80_000, 0, PACKET, 20.0)
        assert sent.heard(20.01, 0.0).milliseconds == pytest.approx(10.0)

    def test_what_the_client_says_it_played(self):
        sent = record(100)
        assert sent.played(timestamp(40), 0.0) == 40 * PACKET
        assert sent.played(timestamp(40), 0.015) == 40.75 * PACKET
        assert sent.played(timestamp(60), 0.030) == 61.5 * PACKET
        assert sent.played(timestamp(40), 5.0) == (40 + MAX_AGE / 0.02) * PACKET  # nothing came after it
        assert sent.played(timestamp(99), 0.050) == 100 * PACKET

    def test_the_client_played_something_else(self):
        sent = record(100)
        assert sent.played(timestamp(100), 0.0) is None
        assert sent.played(timestamp(40) + 1, 0.0) is None
        assert sent.played(timestamp(40), 0.0, former=True) is None

    def test_the_reply_before_is_remembered(self):
        sent = record(100)
        sent.begin_reply()
        sent.sent(80_000, 0, PACKET, 20.0, 5)
        assert sent.played(timestamp(40), 0.010, former=True) == 40.5 * PACKET
        assert sent.played(timestamp(40), 0.010) is None
        assert sent.played(5, 0.010) == PACKET / 2
        sent.begin_reply()
        assert sent.played(timestamp(40), 0.010, former=True) is None

    def test_silence_before_a_reply_is_no_part_of_it(self):
        sent = PlayoutRecord(RATE)
        sent.begin_reply()
        sent.sent(1, 0, 0, 10.0, 960)
        sent.sent(2, 0, PACKET, 10.0, 1920)
        assert sent.played(960, 0.0) == 0
        assert sent.heard(10.01, 0.0).milliseconds == pytest.approx(10.0)

    def test_it_is_bounded(self):
        sent = record(MAX_RECORD * 3)
        assert sent.heard(0.0, 0.0).samples == MAX_RECORD * 2 * PACKET


class Threshold:
    """A detector that takes loud for speech, in frames of 20 ms."""

    def push(self, samples, sample_rate, media_time):
        frames = []
        for at in range(0, len(samples), 320):
            loud = np.abs(samples[at : at + 320]).max() > 1000
            frames.append(VoiceFrame(media_time + at / 16_000, 0.02, 0.9 if loud else 0.1, -20.0))
        return frames

    def disown(self):
        pass

    def reset(self):
        pass


class Subtract:
    """A canceller that knows the echo: it is what is rendered, sample by sample; it judges everything as echo."""

    def __init__(self, believes: bool) -> None:
        self.sent = np.zeros(320, np.int16)
        self.believes = believes

    def render(self, samples, media_time):
        self.sent = samples

    def capture(self, samples, media_time):
        return samples - self.sent, media_time

    def judge(self, frame):
        return frame if self.believes else frame._replace(probability=0.0)

    @property
    def report(self):
        return EchoReport(EchoState.PRESENT, 0.0, 0.0, 0.0, 0)


LOUD, QUIET = np.full(320, 5000, np.int16), np.zeros(320, np.int16)


def hear(listener: SpeechFrontEnd, pattern: str) -> list[object]:
    events: list[object] = []
    for index, mark in enumerate(pattern):
        events += listener.capture(LOUD if mark == "#" else QUIET, index * 0.02).events
    return events


class TestListener:
    def test_from_samples_to_events(self):
        started, stopped = hear(SpeechFrontEnd(TurnSettings(), Threshold), "....##########..........")
        assert isinstance(started, SpeechStarted)
        assert started.onset == pytest.approx(0.08)
        assert isinstance(stopped, SpeechStopped)
        assert stopped.media_time == pytest.approx(0.28)

    def test_a_reply_makes_it_stricter(self):
        listener = SpeechFrontEnd(TurnSettings(minimum_interruption_ms=200), Threshold)
        listener.over_reply = True
        assert hear(listener, "..######............") == []
        listener = SpeechFrontEnd(TurnSettings(minimum_interruption_ms=200), Threshold)
        assert len(hear(listener, "..######............")) == 2

    def test_settings_take_effect_at_once(self):
        listener = SpeechFrontEnd(TurnSettings(), Threshold)
        listener.settings = TurnSettings(threshold=0.95)
        assert hear(listener, "..######............") == []

    def test_nothing_is_made_before_the_first_sound(self):
        made = []

        def detector():
            made.append("detector")
            return Threshold()

        def canceller():
            made.append("canceller")
            return Subtract(believes=True)

        listener = SpeechFrontEnd(TurnSettings(), detector, canceller)
        listener.over_reply = True
        assert listener.reset() == []
        assert list(listener.advance(1.0)) == []
        assert made == []
        listener.render(LOUD, 1.0)
        assert not listener.capture(LOUD, 1.0).samples.any()
        listener.capture(LOUD, 1.02)
        assert sorted(made) == ["canceller", "detector"]

    def test_what_we_send_is_taken_out(self):
        listener = SpeechFrontEnd(TurnSettings(), Threshold, lambda: Subtract(believes=True))
        events = []
        for index in range(20):
            listener.render(LOUD, index * 0.02)
            hearing = listener.capture(LOUD, index * 0.02)
            assert not hearing.samples.any()
            events += hearing.events
        assert events == []

    def test_the_gate_has_the_last_word(self):
        assert (
            hear(SpeechFrontEnd(TurnSettings(), Threshold, lambda: Subtract(believes=False)), "..##########") == []
        )

    def test_nothing_sent_is_silence(self):
        listener = SpeechFrontEnd(TurnSettings(), Threshold)
        hear(listener, "..##########")
        assert listener.speaking
        assert [type(event) for event in listener.advance(1.0)] == [SpeechStopped]

    def test_another_source(self):
        listener = SpeechFrontEnd(TurnSettings(), Threshold)
        hear(listener, "..##########")
        assert [type(event) for event in listener.reset()] == [SpeechStopped]
