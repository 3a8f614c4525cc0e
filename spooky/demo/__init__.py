"""`spooky demo`: the real program between a real HTTP/3 client and two built-in backends."""

from spooky.demo.run import main

__all__ = ["main"]
