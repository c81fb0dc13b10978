"""When consent is asked for and when it is lost."""

from __future__ import annotations

import pytest

from stack.core.errors import LocalError
from stack.ice import ConsentSettings
from stack.ice.check_client import CheckCredentials
from stack.ice.consent import Consent
from tests.sim.entropy import entropy
from tests.sim.ice import credentials

CREDENTIALS = CheckCredentials.of(credentials("one"), credentials("other"))


def test_the_interval_varies_by_a_fifth_both_ways() -> None:
    intervals = [Consent(ConsentSettings(), entropy(seed), CREDENTIALS, 0.0).next_check_at for seed in range(200)]
    assert 4.0 <= min(intervals) < 4.3
    assert 5.7 < max(intervals) <= 6.0


def test_an_unanswered_question_is_followed_by_another_soon() -> None:
    consent = Consent(ConsentSettings(), entropy(1), CREDENTIALS, 0.0)
    consent.check_sent(5.0)
    assert 5.8 <= consent.next_check_at <= 6.2
    assert consent.expires_at == 30.0
    consent.renew(5.1)
    assert 9.1 <= consent.next_check_at <= 11.1
    assert consent.expires_at == 35.1


@pytest.mark.parametrize("settings", [{"interval": 0.0}, {"interval": 31.0}, {"retry": 6.0}])
def test_settings_make_sense(settings: dict[str, float]) -> None:
    with pytest.raises(LocalError):
        ConsentSettings(**settings)
