"""Floor 2: Hyperliquid, sans-IO: parsing, actions, signing, nonces, outcomes, metadata, fees, weights."""
