"""What every test shares: property tests without deadlines, the same examples in every run of CI, two arrivals.

Every test of two ends on a simulated network runs twice from the same seeds: with datagrams one by one, and in
random batches (`tests/sim/arrivals.py`). What would take too long is run in batches by `make test-slow` only.
"""

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.sim.arrivals import in_batches

settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("here"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

# A script starts what it runs in the background with Ctrl-C ignored, and what a test starts would inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

MAY_RERUN = ("browser", "real_clock")
"""The marks of what a stalled machine can break: a real browser, the clock of this machine."""
RERUNS = 2


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give tests that a stalled machine can break another try, which is printed; no other test gets one."""
    if not config.pluginmanager.hasplugin("rerunfailures"):
        return
    for item in items:
        if any(item.get_closest_marker(name) for name in MAY_RERUN):
            item.add_marker(pytest.mark.flaky(reruns=RERUNS))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which tests got another try, and why."""
    reports = terminalreporter.getreports("rerun")
    if not reports:
        return
    terminalreporter.write_sep("=", "tests that were run again")
    for report in reports:
        crash = getattr(report.longrepr, "reprcrash", None)
        reason = str(report.longrepr) if crash is None else f"{crash.path}:{crash.lineno}: {crash.message}"
        terminalreporter.write_line(f"RERUN {report.nodeid}: {reason.strip().splitlines()[0]}")


SIMULATION, MATERIAL = "tests.sim.", ("tests.sim.certificates", "tests.sim.entropy")
"""A module that uses the simulation, and not only what its ends are made from, tests two ends."""
ONE_BY_ONE, IN_BATCHES = "one by one", "in batches"
LONG = (
    "tests/ice/test_agent.py::test_hundreds_of_candidates",
    "tests/sctp/test_delivery.py::test_tsns_and_ssns_wrap",
    "tests/voice/test_conversation.py::test_words_tell_whether",
    "tests/voice/test_long_calls.py",
    "tests/voice/test_recording.py",
    "tests/voice/test_statistics.py",
)
"""What takes long: in batches with the slow tests only."""


def _tests_two_ends(module: object) -> bool:
    used = [getattr(value, "__module__", None) for value in vars(module).values()]
    return any(isinstance(name, str) and name.startswith(SIMULATION) and name not in MATERIAL for name in used)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of two ends once for each way in which datagrams arrive."""
    if not _tests_two_ends(metafunc.module):
        return
    where = metafunc.definition.path.relative_to(metafunc.config.rootpath).as_posix()
    long = f"{where}::{metafunc.function.__name__}".startswith(LONG)
    marks = [pytest.mark.slow] if long else []
    metafunc.fixturenames.append("arrivals")
    metafunc.parametrize(
        "arrivals", [pytest.param(ONE_BY_ONE), pytest.param(IN_BATCHES, marks=marks)], indirect=True
    )


@pytest.fixture
def arrivals(request: pytest.FixtureRequest) -> Iterator[str]:
    """How datagrams arrive in this test."""
    way: str = getattr(request, "param", ONE_BY_ONE)
    with in_batches(way == IN_BATCHES):
        yield way
