"""The fit of the double-talk detector: calls with a known speaker, and what is learnt from them."""

import numpy as np
import pytest

from bench import _fit_double_talk
from bench._double_talk_calls import Labelled, beginning, call
from bench._fit_double_talk import fit, kept, read
from bench._voices import RECORDINGS
from stack.voice.double_talk import DoubleTalkDetector, DoubleTalkWeights
from stack.voice.echo_gate import BANDS

INPUTS = 2 * DoubleTalkDetector(BANDS).measured


def test_the_fit_finds_what_tells_them_apart():
    rng = np.random.default_rng(1)
    inputs = np.zeros((20_000, INPUTS), np.float16)
    inputs[:, :8] = rng.standard_normal((20_000, 8))
    near_end = (np.abs(inputs[:, 3].astype(np.float32)) > 1.0).astype(np.int8)  # no line divides them
    weights = fit(Labelled(inputs, near_end), 1, units=8, epochs=60)
    shown = np.clip((inputs - weights.mean) * weights.scale, -5, 5)
    odds = np.maximum(shown @ weights.hidden + weights.hidden_bias, 0) @ weights.output + weights.output_bias
    assert np.mean((odds > 0) == near_end) > 0.9


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--calls", "0", "--beginnings", "0"], "nothing to learn from"),
        (["--calls", "-1"], "'-1' is no whole number from 0"),
        (["--beginnings", "-1"], "'-1' is no whole number from 0"),
        (["--first", "-1"], "'-1' is no whole number from 0"),
        (["--first", "50000"], "seeds from 50000 on"),
        (["--jobs", "0"], "'0' is no whole number from 1"),
        (["--seed", "-1"], "'-1' is no whole number from 0"),
    ],
)
def test_what_cannot_be_fitted_to_is_one_line(tmp_path, capsys, arguments, said):
    keep = tmp_path / "calls"
    with pytest.raises(SystemExit) as ended:
        _fit_double_talk.main(["--keep", str(keep), *arguments])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not keep.exists(), "nothing was begun"


@pytest.mark.skipif(not RECORDINGS.exists(), reason="apt-get install pocketsphinx-testdata")
class TestCalls:
    def test_a_call_in_which_a_person_speaks_has_both(self, tmp_path):
        pytest.importorskip("espeakng_loader")
        labelled = call(10_002)
        assert labelled.inputs.shape == (len(labelled.near_end), INPUTS)
        assert np.isfinite(labelled.inputs).all()
        assert (labelled.near_end == 1).sum() > 50
        assert (labelled.near_end == 0).sum() > 50

    def test_a_beginning_is_short_and_has_both(self):
        pytest.importorskip("espeakng_loader")
        found = [beginning(seed).near_end for seed in (50_002, 50_003, 50_004)]
        assert all(0 < len(near_end) <= 600 for near_end in found)
        assert set(np.concatenate(found)) >= {0, 1}

    def test_one_in_which_only_the_program_does_has_one_and_is_not_run_again(self, tmp_path, monkeypatch):
        pytest.importorskip("espeakng_loader")
        path = kept(tmp_path, 10_011)
        found = read([path, path])
        assert not found.near_end.any()
        monkeypatch.setattr(_fit_double_talk, "call", None)
        assert kept(tmp_path, 10_011) == path

    def test_what_is_fitted_is_what_the_detector_reads(self, tmp_path):
        pytest.importorskip("espeakng_loader")
        output = tmp_path / "w.npz"
        arguments = [
            "--calls",
            "2",
            "--first",
            "10002",
            "--beginnings",
            "1",
            "--keep",
            str(tmp_path / "calls"),
            "--output",
            str(output),
        ]
        assert _fit_double_talk.main(arguments) == 0
        assert DoubleTalkWeights.load(output).inputs == INPUTS
