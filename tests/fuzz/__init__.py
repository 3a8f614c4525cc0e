"""Fuzzing: `make fuzz`, or `python -m tests.fuzz NAME --seconds 60`."""
