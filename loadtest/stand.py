"""Spooky with what a run needs around it: its configuration, its backends, its own cores.

A `Layout` says how many workers, backends and routes there are. Everything listens on loopback, and
is gone when the run is over. The bench has its own way (`peers`): one worker, one backend, rivals.
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from loadtest.origin import Site, backend, write_certificate
from loadtest.peers import ROOT, program, written
from loadtest.processes import Cores, Launch, free_port, running
from loadtest.run import LOG_LINES, NotMeasuredError, wait_for_answer

SPOOKY = """\
version: 1
worker_processes: {layout.workers}
listen:
  protocol: http3
  address: 127.0.0.1
  port: {site.port}
  tls: {{cert: {site.certificate}, key: {site.key}}}
limits: {{backend_rows: {rows}, client_idle_timeout: 5m, streams_per_connection: 1024}}
upstream:
  origin:
    route: {{path_prefix: /}}
    backends:
{backends}
{routes}admin: {{address: 127.0.0.1, port: {site.spare_port}}}
log: {{level: warning, access: "off"}}
pid: {site.folder}/spooky.pid
"""
CADDY = """\
{{
	admin off
	auto_https off
	persist_config off
	servers {{
		protocols h1 h2c
	}}
}}
http://:{port} {{
	bind {addresses}
	respond "{body}"
}}
"""
MOST_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Layout:
    """How large the configuration is."""

    workers: int = 1
    backends: int = 1
    routes: int = 1
    """The last of them, for every path, leads where the requests go."""
    is_crowded: bool = False
    """One Caddy at the addresses of all backends, instead of nghttpd at one."""


@dataclass(frozen=True, slots=True)
class Stand:
    """Spooky as it runs."""

    master: psutil.Process
    site: Site
    start_s: float
    """From its start to its first answer."""


def share(cores: Cores, workers: int) -> frozenset[int]:
    """The cores for Spooky: its own for one worker, all for more."""
    return cores.proxy if workers == 1 else cores.proxy | cores.others


@contextlib.contextmanager
def stand(folder: Path, cores: Cores, layout: Layout) -> Iterator[Stand]:
    """Spooky and its backends, started and answering; NotMeasuredError when it does not."""
    certificate, key = write_certificate(folder)
    port = free_port()
    site = Site(folder, certificate, key, free_port(), port, free_port())
    origin = _caddy(site, layout) if layout.is_crowded else backend(folder, port)
    config = written(site, "spooky.yaml", configuration(site, layout))
    argv = (sys.executable, "-m", "spooky", "-c", config)
    began = time.monotonic()
    with (
        running(origin, cores.others, folder / "backend.log"),
        running(
            Launch(argv, {"PYTHONPATH": str(ROOT)}),
            share(cores, layout.workers),
            folder / "output.log",
        ) as master,
    ):
        try:
            wait_for_answer(master, site.port)
        except NotMeasuredError as error:
            output = (folder / "output.log").read_text(errors="replace").splitlines()
            raise NotMeasuredError("\n    ".join([str(error), *output[-LOG_LINES:]])) from error
        yield Stand(master, site, time.monotonic() - began)


def configuration(site: Site, layout: Layout) -> str:
    """Spooky's configuration file."""
    backends = "\n".join(
        f'      - {{id: b{place}, address: "{address}:{site.backend_port}"}}'
        for place, address in enumerate(addresses(layout.backends))
    )
    routes = "".join(
        f"  - {{path_prefix: /shop/part-{n}/, respond: {{status: 404}}}}\n"
        for n in range(layout.routes - 1)
    )
    return SPOOKY.format(
        site=site,
        layout=layout,
        backends=backends,
        routes=f"routes:\n{routes}" if routes else "",
        rows=min(MOST_ROWS, max(256, 2 * layout.backends)),
    )


def addresses(count: int) -> list[str]:
    """So many addresses of the loopback network, from 127.0.0.1."""
    return [f"127.0.{n // 250}.{n % 250 + 1}" for n in range(count)]


def _caddy(site: Site, layout: Layout) -> Launch:
    text = CADDY.format(
        port=site.backend_port, addresses=" ".join(addresses(layout.backends)), body="x" * 1024
    )
    config = written(site, "Backends", text)
    argv = (program("caddy"), "run", "--config", config, "--adapter", "caddyfile")
    return Launch(argv, {"HOME": str(site.folder)})
