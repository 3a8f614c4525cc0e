"""HTTP/2 servers of other people, and our own that misbehaves, as programs behind Spooky.

Each starter picks a port, waits until it accepts connections and tries another port if somebody
was quicker. Paths are told apart by their first segment, the backend's name.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.e2e.content import KIB, MIB, chunks
from tests.e2e.processes import START_S, Program, accepts, free_port

SIZES = {"empty": 0, "one": 1, "64k": 64 * KIB, "16m": 16 * MIB}
HUGE = 256 * MIB
PORT_ATTEMPTS = 3


@dataclass(slots=True)
class Backend:
    """A server that runs until its `with` block ends; `name` begins its paths."""

    name: str
    port: int
    program: Program

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.program.kill()

    @property
    def address(self) -> str:
        """The address in the form of the configuration file."""
        return f"127.0.0.1:{self.port}"


def make_site(folder: Path) -> Path:
    """Write the files that nghttpd and Caddy serve, named by `SIZES`, and `huge`, a sparse one."""
    (folder / "mime.types").write_text("text/html html\n")
    for name in ("nghttpd", "caddy"):
        files = folder / name
        files.mkdir()
        for file, length in SIZES.items():
            with (files / file).open("wb") as target:
                target.writelines(chunks(length))
        with (files / "huge").open("wb") as target:
            target.truncate(HUGE)
        (files / "page.html").write_text(
            "<!doctype html><title>t</title><p id=p>loading</p><script>"
            "document.getElementById('p').textContent = 'script ran';</script>"
        )
    return folder


def start_on(port: int, name: str, folder: Path, command: Sequence[str]) -> Backend:
    """Start `command`, which listens on `port`; AssertionError if it does not come to that."""
    program = Program(name, command, folder / f"{name}-{port}.log")
    try:
        program.wait_until(lambda: accepts(port), START_S, "listening")
    except AssertionError:
        program.kill()
        raise
    return Backend(name, port, program)


def start_backend(name: str, folder: Path, command: Callable[[int], Sequence[str]]) -> Backend:
    """Start `command(port)` on a free port and wait until it accepts connections."""
    for attempt in range(PORT_ATTEMPTS):
        port = free_port()
        try:
            return start_on(port, name, folder, command(port))
        except AssertionError:
            if attempt == PORT_ATTEMPTS - 1:
                raise
    raise AssertionError(name)


TRAILER = ("--trailer", "x-checked: nghttpd")


def nghttpd_command(site: Path, port: int, *options: str) -> Sequence[str]:
    """nghttpd with the files of `site`; it echoes uploads."""
    fixed = ("--no-tls", "-a", "127.0.0.1", "--echo-upload", "-d", str(site))
    types = ("--mime-types-file", str(site / "mime.types"))
    return ["nghttpd", *fixed, *types, *options, str(port)]


def start_nghttpd(site: Path, folder: Path, *options: str) -> Backend:
    """nghttpd with the files of `site`."""
    return start_backend("nghttpd", folder, lambda port: nghttpd_command(site, port, *options))


CADDYFILE = """
{{
    admin off
    auto_https off
    persist_config off
    servers {{
        protocols h1 h2c
    }}
}}
http://:{port} {{
    bind 127.0.0.1
    handle /caddy/app/* {{
        reverse_proxy h2c://127.0.0.1:{application} {{
            flush_interval -1
        }}
    }}
    handle {{
        root * {site}
        file_server
    }}
}}
"""


def start_caddy(site: Path, folder: Path, application: int) -> Backend:
    """Caddy with the files of `site`, and below /caddy/app/ the application on that port."""

    def command(port: int) -> Sequence[str]:
        file = folder / f"Caddyfile-{port}"
        file.write_text(CADDYFILE.format(port=port, application=application, site=site))
        caddy = str(Path(sys.executable).parent / "caddy")
        return [caddy, "run", "--adapter", "caddyfile", "--config", str(file)]

    return start_backend("caddy", folder, command)


def start_hypercorn(folder: Path, **options: object) -> Backend:
    """Hypercorn with the application of `asgi_app`, and with `options` of its configuration."""
    more = [f"{name}={value}" for name, value in options.items()]
    return start_backend(
        "asgi", folder, lambda port: [sys.executable, "-m", "tests.e2e.asgi_app", str(port), *more]
    )


def start_scripted(folder: Path) -> Backend:
    """Our own server, which does what a request's path asks for, right or wrong."""
    return start_backend(
        "scripted", folder, lambda port: [sys.executable, "-m", "tests.e2e.scripted", str(port)]
    )
