"""Floor 0: the state machines, declared as tables."""
