"""The simulated exchange: a pure matching engine, a wire layer, servers, market models."""
