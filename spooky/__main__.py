"""`python -m spooky` is the `spooky` command."""

from spooky.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
