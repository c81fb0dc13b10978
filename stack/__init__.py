"""WebRTC from scratch, for talking to machines: what a program needs is exported from here."""

__version__ = "0.1.0"
