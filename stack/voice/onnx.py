"""Models in ONNX files that the user has, through `onnxruntime`, if that is installed.

A file is loaded once in the life of a process, for all callers: `run` keeps no state, so that all calls and
threads share one model. Each run takes one core.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from stack.core.errors import LocalError


@lru_cache(maxsize=8)
def load_model(path: str) -> Any:
    """Return the `InferenceSession` of a file; `LocalError` if it is no model, or `onnxruntime` is missing."""
    try:
        import onnxruntime
    except ImportError as error:
        raise LocalError(f"{path} needs `pip install onnxruntime`, which is not installed") from error
    if not Path(path).is_file():
        raise LocalError(f"there is no file {path}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; what it warns of is the business of who made the file
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise LocalError(f"cannot load {path} as an ONNX model: {reason}") from error
