#!/usr/bin/env python3
"""A shim between BoringSSL's conformance runner ("BoGo") and `stack.dtls`; `interop/README.md` says how to use it.

The runner starts it once for each case, from a directory of its own. It goes through `DtlsEndpoint` alone; nothing
in `stack` knows of it. What it does stands in `interop/bogo/`.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from interop.bogo.case import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
