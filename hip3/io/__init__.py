"""Floor 3: the rim that talks: WebSocket links, the REST client, keys on disk, the flatten procedure."""
