"""The whole bot and the exchange in virtual time, in memory: for tests, and for the simulation."""
