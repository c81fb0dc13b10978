"""Rules that read the evidence of any call, whatever scenario made it, and name the faults that it shows.

A rule is a function from evidence to findings, registered by `@rule`. It says nothing where the evidence does not
suffice: a call that was cut short, a network under trial that loses packets.
"""

from interop.diagnosis import data, description, dtls, ice, media
from interop.diagnosis.rules import RULES, diagnose

__all__ = ["RULES", "data", "description", "diagnose", "dtls", "ice", "media"]
