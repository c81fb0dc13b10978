"""`python -m tests.fuzz TARGET [libFuzzer's options]`: coverage-guided fuzzing. Needs the extra `fuzz`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run libFuzzer on one target; it ends by its own options (`-max_total_time=60`, `-runs=100000`, …)."""
    try:
        import atheris
    except ImportError:
        print("Fuzzing needs atheris: pip install 'voice-stack[fuzz]'", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=["stack"]):
        from tests.fuzz import dtls_targets, ticket_targets
    targets = dtls_targets.TARGETS | ticket_targets.TARGETS
    if len(sys.argv) < 2 or sys.argv[1] not in targets:
        print(f"usage: python -m tests.fuzz TARGET [options]\ntargets: {', '.join(targets)}", file=sys.stderr)
        return 2
    atheris.Setup([sys.argv[0], *sys.argv[2:]], targets[sys.argv[1]])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
