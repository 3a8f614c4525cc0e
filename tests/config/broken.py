"""What a broken configuration file is, in the tables of them, and how one is made.

`Broken.structural` says that the fault is of one key alone, so that the JSON Schema has to
refuse the file too.
"""

from dataclasses import dataclass

LISTEN = "listen: {tls: {cert: a.pem, key: a.key}}\n"
UPSTREAM = """\
upstream:
  api:
    route: {path_prefix: /}
    backends:
      - {id: one, address: "10.0.0.1:8080"}
"""


@dataclass(frozen=True, slots=True)
class Broken:
    """One file and what is said of it; `syntax` where it is no YAML at all."""

    name: str
    text: str
    messages: tuple[str, ...]
    structural: bool = True
    syntax: bool = False


def syntax(name: str, text: str, *messages: str) -> Broken:
    return Broken(name, text, messages, structural=False, syntax=True)


def structural(name: str, text: str, *messages: str) -> Broken:
    return Broken(name, text, messages)


def semantic(name: str, text: str, *messages: str) -> Broken:
    return Broken(name, text, messages, structural=False)


def with_backend(backend: str) -> str:
    """A file whose second backend, on line 7, is the given one."""
    return f"{LISTEN}{UPSTREAM}      - {backend}\n"


def with_upstream(members: str) -> str:
    """A file whose upstream goes on with the given lines, from line 7 on."""
    return LISTEN + UPSTREAM + "".join(f"    {line}\n" for line in members.splitlines())


def with_top(members: str) -> str:
    """A file that goes on with the given lines at the top level, from line 7 on."""
    return LISTEN + UPSTREAM + members


def with_listen(listen: str) -> str:
    """A file with this in place of `listen`."""
    return listen + UPSTREAM


DURATION = "expected a duration such as 250ms, 5s, 1m or 1h, got"
SIZE = "expected a size such as 65536, 64KiB, 10MiB or 1GiB, got"
