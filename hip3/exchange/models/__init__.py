"""Market models: what the rest of the world does while the simulated exchange runs. All are MarketSources (seam)."""
