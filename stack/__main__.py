"""`python -m stack` is the command line of `stack.cli`."""

from stack.cli import main

main()
