"""Stands in for the models behind the pipe: it hears a fixed question, thinks slowly, and speaks in tones.

`python fake_models.py LOG` writes the head of each request to LOG, and `{"stopped": id}` for a thought that was
stopped.
`LOG` "-crash" and "-lacking" are processes that do not get so far.
"""

import json
import os
import sys
import threading
import time

import numpy as np

from stack.agents.local.frames import Frame, read_frame, write_frame

RATE = 16_000
MS_A_CHARACTER = 40
lock = threading.Lock()
stopped: set[int] = set()


def answer(head: dict, body: bytes = b"") -> None:
    with lock:
        write_frame(sys.stdout.buffer, Frame(head, body))


def note(head: dict) -> None:
    with lock, open(sys.argv[1], "a") as file:
        file.write(json.dumps(head) + "\n")


def think(number: int, tokens: int, question: str) -> None:
    if question == "Fail.":
        answer({"id": number, "error": "think: it hurts"})
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
        answer({"failed": "the local assistant lacks a mouth: pip install mouth"})
        return
    answer({"ready": 2})
    while (frame := read_frame(sys.stdin.buffer)) is not None:
        head, number = frame.head, frame.head["id"]
        note(head)
        if head["type"] == "hear":
            seconds = len(frame.body) / 2 / RATE
            answer({"id": number, "text": f" [noise] I spoke for {seconds:.0f} seconds."})
        elif head["type"] == "say":
            count = RATE * MS_A_CHARACTER * len(head["text"]) // 1000
            tone = 5000 * np.sin(2 * np.pi * 440 * np.arange(count) / RATE)
            answer({"id": number, "rate": RATE}, tone.astype("<i2").tobytes())
        elif head["type"] == "think":
            question = head["messages"][-1]["content"]
            threading.Thread(target=think, args=(number, head["tokens"], question), daemon=True).start()
        else:
            stopped.add(number)
    os._exit(0)


if __name__ == "__main__":
    main()
