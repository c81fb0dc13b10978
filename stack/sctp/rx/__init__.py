"""The receiving half of an association: what has arrived, what it makes up, and when to acknowledge it."""
