"""The ground floor: the contract that every machine keeps, and the few tools that every layer needs."""
