"""Spooky, an HTTP/3 load balancer and reverse proxy."""

__version__ = "0.1.0"
