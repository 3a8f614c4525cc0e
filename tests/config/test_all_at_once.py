"""Whatever else is wrong with a file, each of its faults is told of, with its line."""

from pathlib import Path

import pytest

from spooky.config.load import load_and_inspect
from spooky.errors import ConfigError
from tests.config.identities import DAY, NOW, make

VALUES_AND_FILES = """\
version: 1
worker_processes: 500
user: nobody-of-that-name
group: none-of-that-name
listen:
  port: 0
  tls:
    cert: gone.pem
    key: gone.key
    certificates:
      - {server_name: "a b", cert: old.pem, key: old.key}
upstream:
  api:
    route: {path_prefix: /}
    backends: [{address: "https://h"}, {address: "https://h"}]
    tls:
      ca: gone-ca.pem
      server_name: "-"
      client_key: client.key
    timeouts: {connect: 5}
  more:
    route: {path_prefix: /}
    backnds: [{address: "h:0"}]
log: {access: gone/access.log, format: xml}
limits: {stream_window: 2MiB, backend_queue: many}
"""

VALUES_AND_FILES_MESSAGES = [
    "worker_processes: expected auto or 1..128, got 500 (line 2)",
    "user: there is no user nobody-of-that-name on this system (line 3)",
    "group: there is no group none-of-that-name on this system (line 4)",
    "listen.port: expected 1..65535, got 0 (line 6)",
    "listen.tls.cert: {}/gone.pem cannot be read: no such file or directory (line 8)",
    "listen.tls.key: {}/gone.key cannot be read: no such file or directory (line 9)",
    "listen.tls.certificates[0].cert: {}/old.pem expired on 2026-05-31 12:00 UTC (line 11)",
    (
        "listen.tls.certificates[0].server_name: expected a DNS name, or *. and a DNS name, "
        'got "a b" (line 11)'
    ),
    (
        "upstream.api.backends[1].address: https://h:443 is already the address of backends[0] "
        "(line 15)"
    ),
    "upstream.api.tls.ca: {}/gone-ca.pem: cannot be read: No such file or directory (line 17)",
    'upstream.api.tls.server_name: expected a DNS name or an IP address, got "-" (line 18)',
    (
        "upstream.api.tls.client_key: {}/client.key cannot be read: no such file or directory "
        "(line 19)"
    ),
    "upstream.api.tls.client_key: there is no client_cert that it is the key of (line 19)",
    (
        "upstream.api.timeouts.connect: expected a duration such as 250ms, 5s, 1m or 1h, got 5; "
        "a number needs its unit: write 5ms or 5s (line 20)"
    ),
    "upstream.more.route: any host with / is already a route of api (line 22)",
    'upstream.more.backnds: unknown key, did you mean "backends"? (line 23)',
    "upstream.more.backnds[0].address: expected a port of 1..65535, got 0 (line 23)",
    "log.access: the folder {}/gone does not exist; create it first (line 24)",
    "log.format: expected plain or json, got xml (line 24)",
    "limits.backend_queue: expected 0..1000000, got many (line 25)",
    (
        "limits.connection_window: expected at least stream_window, which is 2097152 octets, "
        "got 1048576 (line 25)"
    ),
]

SECTIONS = """\
lisen:
  - {tls: {crt: gone.pem, key: client.key}}
  - {tls: {cert: 7, key: gone.key}, port: 443}
  - {tls: {cert: old.pem, pkcs12: gone.p12}, adress: "::ffff"}
upstream:
  api:
    route: {host: a, path: /x}
    backends: [{address: "h:1", weight: 1001}]
  api:
    route: {host: "*"}
    backends: 5
limits: {backend_queue: 1}
limits: {backend_rows: 1}
"""

SECTIONS_MESSAGES = [
    'lisen: unknown key, did you mean "listen"? (line 1)',
    "lisen[0].tls.crt: {}/gone.pem cannot be read: no such file or directory (line 2)",
    'lisen[0].tls.crt: unknown key, did you mean "cert"? (line 2)',
    "lisen[0].tls.key: {}/client.key cannot be read: no such file or directory (line 2)",
    "lisen[1]: 0.0.0.0 port 443 is already taken by listen[0] (line 3)",
    "lisen[1].tls.cert: {}/7 cannot be read: no such file or directory (line 3)",
    "lisen[1].tls.key: {}/gone.key cannot be read: no such file or directory (line 3)",
    'lisen[2].adress: unknown key, did you mean "address"? (line 4)',
    "lisen[2].tls: has both cert and pkcs12; keep one (line 4)",
    "lisen[2].tls.cert: {}/old.pem expired on 2026-05-31 12:00 UTC (line 4)",
    "lisen[2].tls.pkcs12: {}/gone.p12 cannot be read: no such file or directory (line 4)",
    (
        "upstream.api.route.path: unknown key; known here: host, path_prefix, methods, headers, "
        "cookies, query, priority, rewrite, request_headers, response_headers, mirror, "
        "rate_limits (line 7)"
    ),
    "upstream.api.backends[0].weight: expected 0..1000, got 1001 (line 8)",
    "upstream.api: stands here a second time, after line 6; keep one (line 9)",
    "upstream.api.route.host: leave host out to match every host (line 10)",
    "upstream.api.backends: expected a list, got 5 (line 11)",
    "limits: stands here a second time, after line 12; keep one (line 13)",
    "limits.backend_rows: expected 16..4096, got 1 (line 13)",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make("a.example", valid=(NOW - 9 * DAY, NOW - DAY)).write(tmp_path, "old")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "messages"),
    [(VALUES_AND_FILES, VALUES_AND_FILES_MESSAGES), (SECTIONS, SECTIONS_MESSAGES)],
    ids=["values and files", "sections misspelt or twice"],
)
def test_every_fault(folder: Path, text: str, messages: list[str]) -> None:
    file = folder / "spooky.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_and_inspect(file, NOW)
    found = [str(problem) for problem in caught.value.problems]
    assert found == [message.format(folder) for message in messages]


def test_a_merge_key_does_not_make_what_it_would_bring_missing(folder: Path) -> None:
    file = folder / "spooky.yaml"
    file.write_text(
        "listen: {tls: &t {cert: old.pem, key: old.key}}\n"
        "upstream: {a: {<<: *t, load_balancing: {type: best}}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_and_inspect(file, NOW)
    assert [str(problem) for problem in caught.value.problems] == [
        f"listen.tls.cert: {folder}/old.pem expired on 2026-05-31 12:00 UTC (line 1)",
        (
            'upstream.a."<<": unknown key; merge keys are not supported, use an alias for a whole '
            "value (line 2)"
        ),
        (
            "upstream.a.load_balancing.type: expected round-robin, random, least-connections, "
            "power-of-two, ewma, ring-hash, rendezvous or maglev, got best (line 2)"
        ),
    ]


def test_one_fault_of_an_identity_hides_no_other(folder: Path) -> None:
    (folder / "damaged.key").write_text("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n")
    file = folder / "spooky.yaml"
    file.write_text(
        "listen:\n"
        "  tls: {cert: old.pem, key: damaged.key}\n"
        "upstream:\n"
        "  a:\n"
        "    route: {}\n"
        '    backends: [{address: "https://h"}]\n'
        "    tls: {client_cert: old.pem, client_key: gone.key, passphrase_file: gone.pass}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_and_inspect(file, NOW)
    assert [str(problem) for problem in caught.value.problems] == [
        f"listen.tls.cert: {folder}/old.pem expired on 2026-05-31 12:00 UTC (line 2)",
        f"listen.tls.key: {folder}/damaged.key has a damaged private key in it (line 2)",
        f"upstream.a.tls.client_cert: {folder}/old.pem expired on 2026-05-31 12:00 UTC (line 7)",
        (
            f"upstream.a.tls.client_key: {folder}/gone.key cannot be read: no such file or "
            "directory (line 7)"
        ),
        (
            f"upstream.a.tls.passphrase_file: {folder}/gone.pass cannot be read: no such file or "
            "directory (line 7)"
        ),
    ]
