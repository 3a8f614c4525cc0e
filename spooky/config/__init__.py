"""Configuration: the typed model, the YAML loader, the checks, the certificates."""
