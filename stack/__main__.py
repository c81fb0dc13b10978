"""`python -m stack` is the command line of `stack.cli`."""

import sys

try:
    from stack.cli import main

    main()
except KeyboardInterrupt:
    print("Interrupted.", file=sys.stderr)
    sys.exit(130)
