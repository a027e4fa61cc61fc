"""Floor 5: what an operator's commands are made of: reading the venue before a start, paper and replay set-ups."""
