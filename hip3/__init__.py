"""hip3: trades HIP-3 perpetuals on Hyperliquid with very small IOC orders, from one Trio process."""

__version__ = "0.1.0"
