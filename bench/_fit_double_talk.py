"""Fit the double-talk detector: `python -m bench._fit_double_talk --keep DIR --jobs 2`.

Calls with seeds (`bench/_double_talk_calls.py`) are run through the canceller as it is, with what the detector is
shown noted; each becomes a file in `--keep`, and what is there is not run again. Then one hidden layer is fitted
by stochastic gradient descent (Kingma and Ba, "Adam", ICLR 2015) to say who speaks, and written where the
detector finds it. The calls take an hour of processor time, the fit two minutes.

A seed's call is not the same to the bit each time: the noise in espeak-ng's voices depends on what it said before.

What it is worth is shown elsewhere, in other rooms: `python -m bench bargein`; what it has in common with these
calls is said in `bench/_double_talk_calls.py`.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from bench._double_talk_calls import Labelled, beginning, call
from bench._progress import say
from bench._voices import Missing
from bench.report import add_seed
from interop.arguments import OneLineParser, whole
from stack.voice import double_talk
from stack.voice.double_talk import DoubleTalkWeights

BEGINNINGS = 50_000
"""The first seed that is a beginning's."""
UNITS = 64
EPOCHS = 16
BATCH = 2048
RATE = 2e-3
DECAY = 1e-5
"""Of the weights, in the gradient."""
_LEAST_DEVIATION = 1e-3
_MOST_DEVIATIONS = 5.0
_MOST_JOBS = 1000


def kept(folder: Path, seed: int) -> Path:
    """Run a call unless its file is there; return the file. From seed `BEGINNINGS` on it is a beginning."""
    path = folder / f"{seed:05d}.npz"
    if not path.exists():
        labelled = beginning(seed) if seed >= BEGINNINGS else call(seed)
        known = labelled.near_end >= 0
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, inputs=labelled.inputs[known], near_end=labelled.near_end[known])
        part.rename(path)
    return path


def read(paths: list[Path]) -> Labelled:
    """Return all calls as one."""
    inputs, near_end = [], []
    for path in paths:
        with np.load(path) as file:
            inputs.append(file["inputs"])
            near_end.append(file["near_end"])
    return Labelled(np.concatenate(inputs), np.concatenate(near_end))


def fit(calls: Labelled, seed: int, units: int = UNITS, epochs: int = EPOCHS) -> DoubleTalkWeights:
    """Return the weights of a network with so many hidden units."""
    rng = np.random.default_rng(seed)
    inputs = calls.inputs.astype(np.float32)
    mean, deviation = inputs.mean(0), inputs.std(0) + _LEAST_DEVIATION
    inputs -= mean
    inputs /= deviation
    np.clip(inputs, -_MOST_DEVIATIONS, _MOST_DEVIATIONS, out=inputs)
    truth = calls.near_end.astype(np.float32)
    count = inputs.shape[1]
    layers = [
        (rng.standard_normal((count, units)) * np.sqrt(2.0 / count)).astype(np.float32),
        np.zeros(units, np.float32),
        (rng.standard_normal(units) * np.sqrt(1.0 / units)).astype(np.float32),
        np.zeros(1, np.float32),
    ]
    first = [np.zeros_like(layer) for layer in layers]
    second = [np.zeros_like(layer) for layer in layers]
    step = 0
    for epoch in range(epochs):
        order, loss = rng.permutation(len(inputs)), 0.0
        rate = RATE * (0.5 * (1.0 + np.cos(np.pi * epoch / epochs)) + 0.02)
        for begin in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[begin : begin + BATCH]
            shown, wanted = inputs[rows], truth[rows]
            hidden = np.maximum(shown @ layers[0] + layers[1], 0.0)
            odds = hidden @ layers[2] + layers[3]
            loss += float((np.logaddexp(0.0, odds) - wanted * odds).mean())
            wrong = (1.0 / (1.0 + np.exp(-odds)) - wanted) / BATCH
            back = np.outer(wrong, layers[2]) * (hidden > 0.0)
            gradients = [shown.T @ back, back.sum(0), hidden.T @ wrong, wrong.sum(keepdims=True)]
            step += 1
            for layer, gradient, one, two in zip(layers, gradients, first, second, strict=True):
                gradient = gradient + DECAY * layer
                one += 0.1 * (gradient - one)
                two += 0.001 * (gradient * gradient - two)
                layer -= rate * (one / (1.0 - 0.9**step)) / (np.sqrt(two / (1.0 - 0.999**step)) + 1e-8)
        say(f"epoch {epoch + 1} of {epochs}: {loss / max(1, len(order) // BATCH):.4f}")
    scale = (1.0 / deviation).astype(np.float32)
    return DoubleTalkWeights(mean, scale, layers[0], layers[1], layers[2], float(layers[3][0]))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = OneLineParser(prog="python -m bench._fit_double_talk", description=__doc__)
    parser.add_argument("--calls", type=whole(0, BEGINNINGS), default=1300)
    parser.add_argument("--first", type=whole(0, BEGINNINGS), default=10_000, help="the first call's seed")
    parser.add_argument("--beginnings", type=whole(0, BEGINNINGS), default=1000)
    parser.add_argument("--jobs", type=whole(1, _MOST_JOBS), default=1)
    parser.add_argument("--keep", type=Path, required=True, metavar="DIR", help="where the calls are kept")
    parser.add_argument("--output", type=Path, default=Path(double_talk.__file__).with_suffix(".npz"))
    add_seed(parser, "of the fit")
    chosen = parser.parse_args(arguments)
    if chosen.calls + chosen.beginnings == 0:
        parser.error("--calls 0 --beginnings 0: there is nothing to learn from")
    if chosen.first + chosen.calls > BEGINNINGS:
        parser.error(f"--first and --calls: seeds from {BEGINNINGS} on are those of the beginnings")
    chosen.keep.mkdir(parents=True, exist_ok=True)
    seeds = [
        *range(chosen.first, chosen.first + chosen.calls),
        *range(BEGINNINGS, BEGINNINGS + chosen.beginnings),
    ]
    paths = []
    try:
        with ProcessPoolExecutor(chosen.jobs) as pool:
            for path in pool.map(kept, [chosen.keep] * len(seeds), seeds):
                paths.append(path)
                if len(paths) % 50 == 0:
                    say(f"{len(paths)} of {len(seeds)} calls")
    except Missing as missing:
        print(f"error: {missing}", file=sys.stderr)
        return 2
    calls = read(paths)
    say(f"{len(calls.near_end)} packets, in {calls.near_end.mean():.1%} of them a person")
    fit(calls, chosen.seed).save(chosen.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
