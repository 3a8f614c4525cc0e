import os
from pathlib import Path

import pytest

from spooky.config.dump import dump
from spooky.config.failing import CircuitBreaker, PassiveHealth
from spooky.config.limits import Limits
from spooky.config.load import load, load_text
from spooky.config.model import (
    Admin,
    Backend,
    Certificate,
    Config,
    HealthCheck,
    Listener,
    ListenTls,
    LoadBalancing,
    Log,
    Route,
    Timeouts,
    Upstream,
)
from tests.config.broken import LISTEN, UPSTREAM, with_backend, with_top, with_upstream

FOLDER = Path("/srv/edge")
FILE = str(FOLDER / "spooky.yaml")


def config_of(text: str) -> Config:
    return load_text(text, FILE).config


def test_the_least_file_takes_every_default_from_the_model() -> None:
    identity = Certificate(cert=FOLDER / "a.pem", key=FOLDER / "a.key")
    backend = Backend(id="one", host="10.0.0.1", port=8080)
    expected = Config(
        listen=(Listener(tls=ListenTls(identity)),),
        upstream=(Upstream("api", (Route(),), (backend,)),),
        worker_processes=len(os.sched_getaffinity(0)),
        control="/run/spooky.sock",
    )
    assert config_of(LISTEN + UPSTREAM) == expected


def test_a_file_is_read_with_paths_relative_to_its_folder(tmp_path: Path) -> None:
    (tmp_path / "spooky.yaml").write_text(with_top("pid: run/spooky.pid\n"))
    config = load(tmp_path / "spooky.yaml").config
    assert config.listen[0].tls.default.cert == tmp_path / "a.pem"
    assert config.pid == tmp_path / "run/spooky.pid"


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "spooky.yaml").write_bytes(b"\xef\xbb\xbf" + (LISTEN + UPSTREAM).encode())
    assert load(tmp_path / "spooky.yaml").notices == ()


@pytest.mark.parametrize(
    ("address", "host", "port", "tls", "normal"),
    [
        ("10.0.0.2:80", "10.0.0.2", 80, False, "10.0.0.2:80"),
        ("http://Backend.Internal:8080", "backend.internal", 8080, False, "backend.internal:8080"),
        ("http://b", "b", 80, False, "b:80"),
        ("https://b", "b", 443, True, "https://b:443"),
        ("HTTPS://my_service:8443", "my_service", 8443, True, "https://my_service:8443"),
        ("[2001:DB8::0:1]:80", "2001:db8::1", 80, False, "[2001:db8::1]:80"),
        ("https://[::1]", "::1", 443, True, "https://[::1]:443"),
        ("[::ffff:10.0.0.2]:80", "10.0.0.2", 80, False, "10.0.0.2:80"),
        ("[fe80::1%eth0.5]:80", "fe80::1%eth0.5", 80, False, "[fe80::1%eth0.5]:80"),
        ("b.example.:80", "b.example", 80, False, "b.example:80"),
    ],
)
def test_backend_addresses(address: str, host: str, port: int, tls: bool, normal: str) -> None:
    backend = config_of(with_backend(f'{{address: "{address}"}}')).upstream[0].backends[1]
    assert (backend.host, backend.port, backend.tls) == (host, port, tls)
    assert backend.id == backend.address == normal


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("250ms", 0.25), ("5s", 5), ("1.5s", 1.5), ("2m", 120), ("1h", 3600), ("0", 0), ("0s", 0)],
)
def test_durations(written: str, seconds: float) -> None:
    config = config_of(with_upstream(f"timeouts: {{total: {written}}}"))
    assert config.upstream[0].timeouts == Timeouts(total=seconds)


@pytest.mark.parametrize(
    ("written", "octets"),
    [
        ("65536", 65536),
        ('"65536"', 65536),
        ("64KiB", 65536),
        ("10MiB", 10 << 20),
        ("1GiB", 1 << 30),
    ],
)
def test_sizes(written: str, octets: int) -> None:
    config = config_of(with_top(f"limits: {{response_buffer: {written}}}\n"))
    assert config.limits == Limits(response_buffer=octets)


@pytest.mark.parametrize(
    ("written", "balancing"),
    [
        ("type: round-robin", LoadBalancing("round-robin")),
        ("type: round_robin", LoadBalancing("round-robin")),
        ("type: rr", LoadBalancing("round-robin")),
        ("type: weight-based", LoadBalancing("round-robin")),
        ("type: random", LoadBalancing("random")),
        ("type: lc", LoadBalancing("least-connections")),
        ("type: leastconn", LoadBalancing("least-connections")),
        ("type: p2c", LoadBalancing("power-of-two")),
        ("type: latency-aware", LoadBalancing("ewma")),
        ("type: ip-hash", LoadBalancing("ring-hash", "client_ip")),
        ("type: ip-hash, key: client_ip", LoadBalancing("ring-hash", "client_ip")),
        ("type: sticky-cid", LoadBalancing("ring-hash", "cid")),
        ("type: ch, key: path", LoadBalancing("ring-hash", "path")),
        ("type: hrw, key: 'header:X-User'", LoadBalancing("rendezvous", "header:X-User")),
        ("type: maglev, key: peer_ip, bound: 125", LoadBalancing("maglev", "client_ip", 125)),
        ("bound: 100", LoadBalancing("round-robin", None, 100)),
        ("type: random, key:, bound:", LoadBalancing("random")),
    ],
)
def test_balancing(written: str, balancing: LoadBalancing) -> None:
    config = config_of(with_upstream(f"load_balancing: {{{written}}}"))
    assert config.upstream[0].load_balancing == balancing


@pytest.mark.parametrize(
    ("written", "route"),
    [
        ("{host: API.Example.com.}", Route(host="api.example.com")),
        ("{host: '*.Example.com'}", Route(host="*.example.com")),
        ("{host: '[2001:DB8::1]'}", Route(host="[2001:db8::1]")),
        ("{path_prefix: /api/}", Route(path_prefix="/api")),
        ("{path_prefix: /}", Route()),
        ("{host: null}", Route()),
    ],
)
def test_routes_are_normalized(written: str, route: Route) -> None:
    text = f"{LISTEN}upstream: {{a: {{route: {written}, backends: [{{address: 'h:1'}}]}}}}\n"
    assert config_of(text).upstream[0].routes == (route,)


@pytest.mark.parametrize("off", ["off", "no", "false", '"off"'])
def test_what_yaml_takes_for_a_truth_value_can_be_off(off: str) -> None:
    config = config_of(with_top(f"admin: {off}\nlog: {{access: {off}}}\n"))
    assert config.admin == Admin(port=0)
    assert config.log == Log(access=None)


def test_words_reach_their_keys_as_they_were_written() -> None:
    config = config_of(with_backend('{id: 0010, address: "h:1"}') + "log: {level: off}\n")
    assert config.upstream[0].backends[1].id == "0010"
    assert config.log.level == "off"


def test_a_section_with_nothing_in_it_is_all_defaults() -> None:
    config = config_of(with_top("limits:\n  # backend_queue: 5\nlog: {}\n"))
    assert (config.limits, config.log) == (Limits(), Log())


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", ("auto", 10.0, False)),
        ("steering: kernel\nworker_timeout: 2s\nwatch: true\n", ("kernel", 2.0, True)),
        ("steering: userspace\nworker_timeout: 0\nwatch: off\n", ("userspace", 0.0, False)),
    ],
)
def test_how_processes_work_together(written: str, expected: tuple[str, float, bool]) -> None:
    config = config_of(with_top(written))
    assert (config.steering, config.worker_timeout, config.watch) == expected
    assert load_text(dump(config)).config == config


def test_a_backend_of_several_upstreams_takes_one_row() -> None:
    backends = ", ".join(f'{{address: "b:{port}"}}' for port in range(1, 17))
    groups = "".join(
        f"  {name}: {{route: {{host: {name}}}, backends: [{backends}]}}\n" for name in "abc"
    )
    config = config_of(f"{LISTEN}upstream:\n{groups}limits: {{backend_rows: 16}}\n")
    assert config.limits.backend_rows == 16


def test_several_listeners_with_an_alias() -> None:
    text = 'listen:\n  - tls: &t {pkcs12: a.p12}\n  - {address: "::", tls: *t}\n' + UPSTREAM
    first, second = config_of(text).listen
    assert first.tls == second.tls == ListenTls(Certificate(pkcs12=FOLDER / "a.p12"))
    assert (first.address, second.address) == ("0.0.0.0", "::")


@pytest.mark.parametrize(
    ("keys", "check"),
    [
        ("path: /up, interval: 10s", HealthCheck(path="/up", interval=10.0)),
        ("status: 204", HealthCheck(status=((204, 204),))),
        ("status: '200-299, 404'", HealthCheck(status=((200, 299), (404, 404)))),
        ("method: HEAD, host: 'a.b:1', port: 9", HealthCheck(method="HEAD", host="a.b:1", port=9)),
        ("body: well, body_bytes: 1KiB", HealthCheck(body="well", body_bytes=1024)),
        ("body_regex: 'a+b', jitter: 0%", HealthCheck(body_regex="a+b", jitter=0)),
        ("type: grpc, service: a.B", HealthCheck(type="grpc", service="a.B")),
        ("type: tcp, port: 1, jitter: 25%", HealthCheck(type="tcp", port=1, jitter=0.25)),
        ("type: command, command: [a, b]", HealthCheck(type="command", command=("a", "b"))),
        ("cooldown: 2s, max_cooldown: 3s", HealthCheck(cooldown=2, max_cooldown=3)),
        # What is written of the one is no fault of a default of the other.
        ("cooldown: 90s", HealthCheck(cooldown=90, max_cooldown=90)),
        ("max_cooldown: 2s", HealthCheck(cooldown=2, max_cooldown=2)),
        ("interval: 500ms", HealthCheck(interval=0.5, timeout=0.5)),
    ],
)
def test_health_checks(keys: str, check: HealthCheck) -> None:
    loaded = load_text(with_upstream(f"health_check: {{{keys}}}\n"))
    assert loaded.config.upstream[0].health_check == check
    assert loaded.notices == ()
    assert load_text(dump(loaded.config)).config == loaded.config


@pytest.mark.parametrize(
    ("section", "found"),
    [
        (
            "passive_health: {ejection_time: 10m}",
            PassiveHealth(ejection_time=600, max_ejection_time=600),
        ),
        ("circuit_breaker: {open_time: 2m}", CircuitBreaker(open_time=120, max_open_time=120)),
        ("circuit_breaker: {trials: 1}", CircuitBreaker(trials=1, trial_successes=1)),
    ],
)
def test_no_default_contradicts_what_is_written(section: str, found: object) -> None:
    config = load_text(with_upstream(f"{section}\n")).config
    upstream = config.upstream[0]
    assert found in (upstream.passive_health, upstream.circuit_breaker)
    assert load_text(dump(config)).config == config


@pytest.mark.parametrize(
    ("backend", "tls", "notice"),
    [
        ('"h:1"', "{ca: ca.pem}", "tls: has no effect: no backend of it is https://"),
        (
            '"https://h"',
            "{verify: no}",
            "tls.verify: off: anybody who answers at their addresses is taken for these backends",
        ),
    ],
)
def test_tls_that_does_nothing_or_proves_nothing(backend: str, tls: str, notice: str) -> None:
    text = with_backend(f"{{address: {backend}}}") + f"    tls: {tls}\n"
    assert load_text(text).notices == (f"upstream.api.{notice} (line 8)",)


LONELY = "has no effect: the instance has none, write zone at the top too"


@pytest.mark.parametrize(
    ("zone", "backend", "told"),
    [
        ("", "", ()),
        ("zone: a\n", "a", ()),
        ("", "a", (f"upstream.api.backends[1].zone: {LONELY} (line 7)",)),
        ("zone: a\n", "", ("zone: has no effect: no backend stands in a (line 8)",)),
        ("zone: a\n", "b", ("zone: has no effect: no backend stands in a (line 8)",)),
    ],
)
def test_zones_that_do_nothing(zone: str, backend: str, told: tuple[str, ...]) -> None:
    where = f", zone: {backend}" if backend else ""
    assert load_text(with_backend(f'{{address: "h:1"{where}}}') + zone).notices == told


def test_problems_found_later_have_their_lines_too() -> None:
    places = load_text(LISTEN + UPSTREAM).places
    assert str(places.problem("listen[0].tls.cert", "gone")) == "listen.tls.cert: gone (line 1)"
    assert (
        str(places.problem("upstream.api.tls.ca", "gone")) == "upstream.api.tls.ca: gone (line 3)"
    )
