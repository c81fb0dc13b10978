"""Reproducible comparisons: `python -m bench --list`, `python -m bench NAME [--json]`.

Each module here whose name has no leading underscore (`report` aside) is a benchmark: the first line of its
docstring says what it compares, and `run(options)` returns its tables. It runs ours and a peer's in the same run,
one after the other, under the same conditions, and prints a ratio. Nothing here is imported by `stack`, and a
timing never gates a test.
"""
