from pathlib import Path

from spooky.config.load import load_text
from spooky.config.model import Certificate, HealthCheck, Route
from tests.config.broken import LISTEN

BASIC = """\
listen:
  address: "0.0.0.0"
  port: 443

tls:
  cert: "/path/to/cert.pem"
  key: "/path/to/key.pem"

load_balancing:
  lb_type: "random"

backends:
  - id: "web1"
    address: "192.168.1.10:8080"
    weight: 100
"""

PRESENT = """\
    listen:
      address: "0.0.0.0"
      port: 443
      tls:
        cert: "/path/to/cert.pem"
        key: "/path/to/key.pem"
    upstream:
      default:
        route:
          path_prefix: /
        load_balancing:
          type: "random"
        backends:
        - id: "web1"
          address: "192.168.1.10:8080"
          weight: 100"""


def unindented(text: str) -> str:
    return "\n".join(line[4:] for line in text.splitlines())


def test_the_basic_form_is_one_upstream_for_everything() -> None:
    loaded = load_text(BASIC)
    (upstream,) = loaded.config.upstream
    assert (upstream.name, upstream.routes) == ("default", (Route(),))
    assert upstream.load_balancing.type == "random"
    assert [backend.id for backend in upstream.backends] == ["web1"]
    expected = Certificate(cert=Path("/path/to/cert.pem"), key=Path("/path/to/key.pem"))
    assert loaded.config.listen[0].tls.default == expected


def test_the_notice_shows_the_present_form_which_means_the_same() -> None:
    loaded = load_text(BASIC)
    (notice,) = loaded.notices
    intro, _, snippet = notice.partition("\n")
    assert intro == (
        "tls, load_balancing, backends: an older form at the top level (line 5); "
        "write in its place:"
    )
    assert snippet == PRESENT
    again = load_text(unindented(snippet))
    assert (again.config, again.notices) == (loaded.config, ())


def test_top_level_tls_alone_goes_into_the_listener() -> None:
    text = "tls: {cert: a.pem}\nupstream: {a: {route: {}, backends: [{address: 'h:1'}]}}\n"
    loaded = load_text(text)
    assert loaded.config.listen[0].port == 443
    (notice,) = loaded.notices
    assert notice == (
        "tls: an older form at the top level (line 1); write in its place:\n"
        "    listen:\n      tls: {cert: a.pem}"
    )


def with_checks(*backends: str, upstream: str = "") -> str:
    listed = "".join(f"      - {backend}\n" for backend in backends)
    return f"{LISTEN}upstream:\n  api:\n    route: {{}}\n    backends:\n{listed}{upstream}"


def test_health_check_under_backends_moves_to_the_upstream() -> None:
    loaded = load_text(
        with_checks(
            '{address: "a:1", health_check: {path: /up, interval: 5s}}',
            '{address: "b:1"}',
            '{address: "c:1", health_check: {interval: 5s, path: /up}}',
        )
    )
    assert loaded.config.upstream[0].health_check == HealthCheck(path="/up", interval=5.0)
    (moved,) = loaded.notices
    assert moved == (
        "upstream.api: health_check under a backend is an older form (line 6); it is used for all "
        "backends of the upstream. Take it out of the backends and write:\n"
        "    upstream:\n      api:\n        health_check: {path: /up, interval: 5s}"
    )


def test_health_check_in_both_places_when_they_say_the_same() -> None:
    backend = '{address: "a:1", health_check: {path: /up}}'
    loaded = load_text(with_checks(backend, upstream="    health_check: {path: /up}\n"))
    assert loaded.config.upstream[0].health_check == HealthCheck(path="/up")
    assert len(loaded.notices) == 1


def test_upstreams_that_share_backends_by_an_alias_both_get_the_check() -> None:
    text = (
        f"{LISTEN}upstream:\n"
        "  a: {route: {host: a}, backends: &b [{address: 'h:1', health_check: {path: /up}}]}\n"
        "  b: {route: {host: b}, backends: *b}\n"
    )
    checks = [upstream.health_check for upstream in load_text(text).config.upstream]
    assert checks == [HealthCheck(path="/up"), HealthCheck(path="/up")]
