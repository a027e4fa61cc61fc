"""Floor 1: the pure core. Nothing here waits, reads a clock, draws a random number or talks to anyone."""
