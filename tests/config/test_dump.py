from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from spooky.config.dump import dump
from spooky.config.load import load, load_text
from spooky.config.units import format_duration, format_size, parse_duration, parse_size
from tests.config.broken import LISTEN, UPSTREAM, with_backend, with_top, with_upstream

EXAMPLES = sorted((Path(__file__).parents[2] / "config").glob("*.yaml"))

RICH = (
    with_backend('{id: "no", address: "https://[::1]", weight: 7}')
    + "    tls: {verify: false, ca: ca, server_name: b.internal, client_cert: c.pem}\n"
    + "    timeouts: {connect: 1500ms, idle: 0, total: 1.001s}\n"
    + "    health_check: {path: '/h?x=1', interval: 90s}\n"
    + "    passive_health: {latency_factor: 2.5, ejection_time: 1s}\n"
    + "    circuit_breaker: {trials: 7}\n"
    + "    admission: {adaptive: {type: aimd, min: 20, latency: 10ms}, queue: 7, priority: 6}\n"
    + "    backend_limits: {max_queued: 3}\n"
    + "  'a.b': {route: [{host: '*.x'}, {host: y}], backends: [{address: 'b:1'}]}\n"
    + "  spare: {backends: [{address: 'c:1'}]}\n"
    + "routes:\n"
    + "- {host: z, split: {upstreams: {api: 1, spare: 9}, key: 'cookie:id'}, methods: [GET],\n"
    + "   headers: {X-A: '1', b: {regex: 'a.*', invert: true}}, cookies: {c: {present: false}},\n"
    + "   query: {d: {prefix: x}}, priority: -1, mirror: {upstream: spare, percent: 0.5},\n"
    + "   rewrite: {regex: '/(.*)', to: '/\\1', host: 'i:81'},\n"
    + "   request_headers: {remove: [E], set: {f: '${host}'}, add: {f: '$${'}}}\n"
    + "- {path_prefix: /r, redirect: {status: 308, scheme: http, host: h, path: /}}\n"
    + "- {path_prefix: /f, respond: {file: page, content_type: a/b}}\n"
    + '- {path_prefix: /b, respond: {body: "a\\n b\\t\\u20ac", status: 404}}\n'
    + "worker_processes: 3\nadmin: off\nlog: {level: off, access: off, file: l}\n"
    + "user: '123'\ngroup: 'true'\nlimits: {request_body_bytes: 12345}\n"
)


@pytest.mark.parametrize(
    "text",
    [LISTEN + UPSTREAM, RICH, with_upstream("health_check:\n"), with_top("admin: {port: 1}\n")]
    + [with_upstream("passive_health: off\n"), with_upstream("circuit_breaker:\n")]
    + [pytest.param(path.read_text(), id=path.name) for path in EXAMPLES],
)
def test_what_is_written_reads_back_as_the_same(text: str) -> None:
    config = load_text(text, "/etc/spooky/config.yaml").config
    assert load_text(dump(config), "/elsewhere/x.yaml").config == config


def test_every_default_is_written() -> None:
    written = yaml.safe_load(dump(load_text(LISTEN + UPSTREAM).config))
    assert written["limits"]["stream_window"] == "256KiB"
    assert written["upstream"]["api"]["timeouts"]["connect"] == "5s"
    assert written["listen"]["port"] == 443
    assert written["drain_timeout"] == "30s"


def test_the_reference_example_has_every_key_at_its_default() -> None:
    """`health_check` and the keys without a default are comments in it."""
    example = Path(__file__).parents[2] / "config" / "spooky.yaml"
    written = yaml.safe_load(dump(load(example).config))
    shown = yaml.safe_load(example.read_text())
    assert shown["worker_processes"] == "auto"
    for section in ("log", "limits", "admin"):
        assert shown[section].keys() == written[section].keys()
    least = load_text(LISTEN + UPSTREAM).config
    config = load(example).config
    assert (config.limits, config.log, config.admin) == (least.limits, least.log, least.admin)
    assert config.upstream[0].timeouts == least.upstream[0].timeouts
    assert config.upstream[0].tls == least.upstream[0].tls
    assert config.upstream[0].passive_health == least.upstream[0].passive_health
    assert (config.drain_timeout, config.pid) == (least.drain_timeout, least.pid)
    assert (config.steering, config.worker_timeout, config.watch) == ("auto", 10.0, False)


@given(st.integers(0, 10**8))
def test_durations_survive(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@given(st.integers(0, 1 << 45))
def test_sizes_survive(octets: int) -> None:
    assert parse_size(format_size(octets)) == octets
