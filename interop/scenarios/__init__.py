"""What the harness tries. Importing this package registers everything."""

# isort: off
# In the order of the matrix.
from interop.scenarios import calls, sound, paths, handshakes, data, endings, crowds, network, hostile
from interop.scenarios.registry import SCENARIOS, Scenario
# isort: on

__all__ = [
    "SCENARIOS",
    "Scenario",
    "calls",
    "crowds",
    "data",
    "endings",
    "handshakes",
    "hostile",
    "network",
    "paths",
    "sound",
]
