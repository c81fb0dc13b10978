"""The lowest layer: the contract that every machine keeps, and the few tools that every layer needs."""
