"""Files with models: loaded once, and what is wrong with them said in one line."""

import sys

import pytest

from stack.core.errors import LocalError
from stack.voice.onnx import load_model
from tests.voice.conftest import Runtime


def test_a_file_is_loaded_once(runtime: Runtime) -> None:
    one, other = runtime.file("one.onnx"), runtime.file("other.onnx")
    assert load_model(one) is load_model(one) is not load_model(other)
    assert runtime.loaded == [one, other]


def test_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, no_models: None) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(LocalError, match=r"x\.onnx needs `pip install onnxruntime`"):
        load_model("x.onnx")


def test_it_says_what_is_wrong_with_a_file(runtime: Runtime) -> None:
    with pytest.raises(LocalError, match=r"there is no file missing\.onnx"):
        load_model("missing.onnx")
    with pytest.raises(LocalError, match=r"cannot load .*broken\.onnx as an ONNX model: no protobuf$"):
        load_model(runtime.file("broken.onnx"))
