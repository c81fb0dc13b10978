"""What the harness tries. Importing this package registers everything."""

from interop.scenarios import calls, data, endings, handshakes, hostile, network
from interop.scenarios.registry import SCENARIOS, Scenario

__all__ = ["SCENARIOS", "Scenario", "calls", "data", "endings", "handshakes", "hostile", "network"]
