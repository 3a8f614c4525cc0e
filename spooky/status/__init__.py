"""What `spooky status` tells: the state of a running instance, read from outside of it."""
