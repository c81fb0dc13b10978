"""Stands in for the models behind the pipe: it recognises one question, generates slowly, synthesises tones.

`python fake_models.py LOG` writes the head of each request to LOG, and `{"stopped": id}` for an answer that was
stopped.
`LOG` "-crash" and "-lacking" are processes that do not get so far.
"""

import json
import os
import sys
import threading
import time

import numpy as np

from stack.agents.local.frames import PipeFrame, read_frame, write_frame

RATE = 16_000
MS_A_CHARACTER = 40
lock = threading.Lock()
stopped: set[int] = set()


def answer(head: dict, body: bytes = b"") -> None:
    with lock:
        write_frame(sys.stdout.buffer, PipeFrame(head, body))


def note(head: dict) -> None:
    with lock, open(sys.argv[1], "a") as file:
        file.write(json.dumps(head) + "\n")


def generate(number: int, tokens: int, question: str) -> None:
    if question == "Fail.":
        answer({"id": number, "error": "generate: it hurts"})
        return
    if question == "Die.":
        os._exit(1)
    for index in range(tokens):
        if number in stopped:
            note({"stopped": number})
            break
        answer({"id": number, "piece": f"This is number {index}. "})
        time.sleep(0.02)
    answer({"id": number, "done": "length"})


def main() -> None:
    if sys.argv[1] == "-crash":
        sys.exit(3)
    if sys.argv[1] == "-lacking":
        answer({"failed": "the local assistant lacks piper: pip install piper"})
        return
    answer({"ready": 2})
    while (frame := read_frame(sys.stdin.buffer)) is not None:
        head, number = frame.head, frame.head["id"]
        note(head)
        if head["type"] == "recognise":
            seconds = len(frame.body) / 2 / RATE
            answer({"id": number, "text": f" [noise] I spoke for {seconds:.0f} seconds."})
        elif head["type"] == "synthesise":
            count = RATE * MS_A_CHARACTER * len(head["text"]) // 1000
            tone = 5000 * np.sin(2 * np.pi * 440 * np.arange(count) / RATE)
            answer({"id": number, "rate": RATE}, tone.astype("<i2").tobytes())
        elif head["type"] == "generate":
            question = head["messages"][-1]["content"]
            threading.Thread(target=generate, args=(number, head["tokens"], question), daemon=True).start()
        else:
            stopped.add(number)
    os._exit(0)


if __name__ == "__main__":
    main()
