"""Configuration: one schema, loaded, checked and hashed before anything starts."""
