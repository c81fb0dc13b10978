"""What every test shares: property tests without deadlines, and the same examples in every run of CI."""

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("here"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

REAL_TIME = ("tests/agents/", "tests/aio/", "tests/cli/", "tests/examples/", "tests/interop/", "tests/signaling/")
"""Tests that run against the clock of this machine, in other people's programs or over sockets."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give tests that a stalled machine can break another try; a bug breaks that one as well."""
    if not config.pluginmanager.hasplugin("rerunfailures"):
        return
    for item in items:
        where = item.path.relative_to(config.rootpath).as_posix()
        if where.startswith(REAL_TIME):
            item.add_marker(pytest.mark.flaky(reruns=2))
