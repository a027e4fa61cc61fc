"""Venues: what the wire of each one looks like, without any I/O."""
