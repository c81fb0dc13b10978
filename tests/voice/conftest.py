"""A stand-in for `onnxruntime`, and files for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from stack.voice.onnx import load_model


class Runtime:
    """What `onnxruntime` would be: every file is the one model, but for those that are called broken."""

    def __init__(self, folder: Path) -> None:
        self.inputs: dict[str, list[int | str]] = {}
        self.run: Callable[[dict[str, Any]], list[Any]] = lambda given: []
        self.loaded: list[str] = []
        self._folder = folder

    def file(self, name: str) -> str:
        path = self._folder / name
        path.touch()
        return str(path)

    def session(self, model: str, options: object, providers: list[str]) -> SimpleNamespace:
        if "broken" in model:
            raise RuntimeError("no protobuf\nand a long story")
        self.loaded.append(model)
        return SimpleNamespace(
            get_inputs=lambda: [SimpleNamespace(name=name, shape=shape) for name, shape in self.inputs.items()],
            run=lambda outputs, given: self.run(given),
        )


@pytest.fixture
def no_models() -> Iterator[None]:
    """No model is loaded before and after."""
    load_model.cache_clear()
    yield
    load_model.cache_clear()


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_models: None) -> Runtime:
    fake, module = Runtime(tmp_path), ModuleType("onnxruntime")
    module.InferenceSession, module.SessionOptions = fake.session, SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    return fake
