"""What an association does with chunks and timers, one module to a section of RFC 9260.

Each module registers the handlers of its chunks with `handles`; this package imports every module it holds, so
that a new one is found without being named anywhere.
"""

from importlib import import_module
from pkgutil import iter_modules

from stack.sctp.procedures.handlers import HANDLERS

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["HANDLERS"]
