"""A soak: faults at random for as long as one likes, on a stack of its own, looked at from outside."""
