"""What an association does with chunks and timers, one module to a section of RFC 9260.

Each module registers the handlers of its chunks with `handles`; this package imports every module it holds, so
that a new one is found without being named anywhere.
"""

from stack.core.registry import import_modules
from stack.sctp.procedures.handlers import HANDLERS

import_modules(__name__, __path__)

__all__ = ["HANDLERS"]
