"""Broken configuration files, each with exactly the messages that it must give."""

from dataclasses import fields

from spooky.config.limits import Limits
from spooky.config.tables import CONFIG
from tests.config.broken import (
    DURATION,
    LISTEN,
    SIZE,
    UPSTREAM,
    semantic,
    structural,
    syntax,
    with_listen,
    with_top,
)

LIMITS = [field.name for field in fields(Limits)]

SYNTAX = (
    syntax(
        "empty file",
        "# nothing\n",
        "the file is empty: it needs at least listen and upstream",
    ),
    syntax(
        "colon in plain text",
        "listen:\n  address: ::\n",
        "not valid YAML: mapping values are not allowed here, at column 13 (line 2)",
    ),
    syntax(
        "bracket left open",
        "listen: [\nupstream: {}\n",
        "not valid YAML: while parsing a flow sequence that begins on line 1, expected ',' "
        "or ']', but got '<stream end>', at column 1 (line 3)",
    ),
    syntax(
        "tab as indentation",
        "listen:\n\tport: 443\n",
        "not valid YAML: while scanning for the next token, found character '\\t' that cannot "
        "start any token, at column 1 (line 2)",
    ),
    syntax(
        "control character",
        "listen:\n  address: a\x01\n",
        "not valid YAML: the character \\x01 is not allowed (line 2)",
    ),
    syntax(
        "impossible escape",
        'pid: "\\UFFFFFFFF"\n',
        "not valid YAML: an escape sequence that names no character",
    ),
    syntax(
        "two documents",
        f"{LISTEN}---\n{UPSTREAM}",
        "not valid YAML: expected a single document in the stream that begins on line 1, but found "
        "another document, at column 1 (line 2)",
    ),
    syntax(
        "unknown alias",
        "listen: *here\n",
        "not valid YAML: found undefined alias 'here', at column 9 (line 1)",
    ),
    syntax(
        "nested too deep",
        "[" * 1000,
        "not valid YAML for Spooky: nested far too deep",
    ),
)

KEYS = (
    structural(
        "a list at the top",
        "- listen\n",
        f"expected a mapping with the keys {', '.join(CONFIG.fields)}, got a list",
    ),
    structural(
        "nothing but a version",
        "version: 1\n",
        "listen: missing; write {address: 0.0.0.0, port: 443, tls: {...}}",
        "upstream: missing; write "
        "{NAME: {route: {path_prefix: /}, backends: [{address: HOST:PORT}]}}",
    ),
    structural("other version", with_top("version: 2\n"), "version: expected 1, got 2 (line 7)"),
    structural(
        "misspelt key",
        LISTEN + 'upstream:\n  api:\n    route: {}\n    backnds: [{address: "h:1"}]\n',
        'upstream.api.backnds: unknown key, did you mean "backends"? (line 5)',
    ),
    structural(
        "unheard-of key",
        with_top("log:\n  colour: red\n"),
        "log.colour: unknown key; known here: level, format, file, access (line 8)",
    ),
    semantic(
        "key given twice",
        with_top("limits:\n  backend_queue: 5\n  backend_queue: 6\n"),
        "limits.backend_queue: stands here a second time, after line 8; keep one (line 9)",
    ),
    semantic(
        "merge key",
        LISTEN + "upstream:\n  a: &a {route: {}, backends: [{address: 'h:1'}]}\n"
        "  b: {<<: *a, route: {host: b}, backends: [{address: 'h:1'}]}\n",
        'upstream.b."<<": unknown key; merge keys are not supported, use an alias for a whole '
        "value (line 4)",
    ),
    semantic(
        "a mapping as key",
        with_top("? {a: b}\n: c\n"),
        "expected a name as key, got a mapping (line 7)",
    ),
    structural(
        "text for a section",
        with_top("limits: none\n"),
        f"limits: expected a mapping with the keys {', '.join(LIMITS)}, got none (line 7)",
    ),
)

LISTENERS = (
    structural(
        "no certificates at all",
        with_listen("listen: {port: 443}\n"),
        "listen.tls: missing; HTTP/3 needs one: write {cert: ..., key: ...} (line 1)",
    ),
    structural(
        "tls without certificate",
        with_listen("listen:\n  port: 443\n  tls: {key: a.key}\n"),
        "listen.tls: has no certificate; write cert and key, or pkcs12 (line 3)",
    ),
    structural(
        "cert and pkcs12",
        with_listen("listen:\n  - tls: {cert: a.pem, pkcs12: a.p12}\n"),
        "listen[0].tls: has both cert and pkcs12; keep one (line 2)",
    ),
    semantic(
        "key beside pkcs12",
        with_listen("listen:\n  tls: {pkcs12: a.p12, key: a.key}\n"),
        "listen.tls.key: a PKCS#12 bundle has its key inside; remove key (line 2)",
    ),
    semantic(
        "server name twice",
        with_listen(
            "listen:\n  tls:\n    cert: a.pem\n    certificates:\n"
            "      - {server_name: B.example, cert: b.pem}\n"
            "      - {server_name: b.example, cert: c.pem}\n"
        ),
        "listen.tls.certificates[1].server_name: b.example already has a certificate, "
        "in certificates[0] (line 6)",
    ),
    semantic(
        "server name that is an address",
        with_listen(
            "listen:\n  tls:\n    cert: a.pem\n"
            "    certificates: [{server_name: 10.0.0.1, cert: b.pem}]\n"
        ),
        "listen.tls.certificates[0].server_name: a server name is a DNS name, never an address "
        "(RFC 6066 section 3) (line 4)",
    ),
    structural(
        "protocol of another kind",
        with_listen("listen: {protocol: http2, tls: {cert: a.pem}}\n"),
        "listen.protocol: expected http3, got http2 (line 1)",
    ),
    semantic(
        "name as listening address",
        with_listen("listen: {address: localhost, tls: {cert: a.pem}}\n"),
        "listen.address: expected an IP address such as 0.0.0.0 or ::, without brackets, "
        "got localhost (line 1)",
    ),
    structural(
        "port out of range and port as text",
        with_listen(
            'listen:\n  - {port: 70000, tls: {cert: a.pem}}\n  - {port: "1", tls: {cert: a.pem}}\n'
        ),
        "listen[0].port: expected 1..65535, got 70000 (line 2)",
        'listen[1].port: expected 1..65535 without quotes, got "1" (line 3)',
    ),
    semantic(
        "same listener twice",
        with_listen("listen:\n  - {tls: {cert: a.pem}}\n  - {port: 443, tls: {cert: b.pem}}\n"),
        "listen[1]: 0.0.0.0 port 443 is already taken by listen[0] (line 3)",
    ),
    structural(
        "empty list of listeners",
        with_listen("listen: []\n"),
        "listen: expected at least 1 in the list, got none (line 1)",
    ),
)

REST = (
    structural(
        "no workers",
        with_top("worker_processes: 0\n"),
        "worker_processes: expected auto or 1..128, got 0 (line 7)",
    ),
    structural(
        "unknown log level",
        with_top("log: {level: loud, format: xml}\n"),
        "log.format: expected plain or json, got xml (line 7)",
        "log.level: expected debug, info, warning, error or off, got loud (line 7)",
    ),
    semantic(
        "log file that is off",
        with_top("log: {file: off}\n"),
        "log.file: expected a path or -; to log nothing, write level: off (line 7)",
    ),
    structural(
        "admin port of 0",
        with_top("admin: {port: 0}\n"),
        "admin.port: expected 1..65535, got 0 (line 7)",
    ),
    structural(
        "sizes",
        with_top(
            "limits:\n  stream_window: 64k\n  response_buffer: 1KiB\n  max_datagram_size: 1500\n"
        ),
        f"limits.stream_window: {SIZE} 64k (line 8)",
        "limits.response_buffer: expected 4KiB..1GiB, got 1KiB (line 9)",
        "limits.max_datagram_size: expected 1200..1452, got 1500 (line 10)",
    ),
    semantic(
        "windows that contradict each other",
        with_top("limits:\n  stream_window: 2MiB\n"),
        "limits.connection_window: expected at least stream_window, which is 2097152 octets, "
        "got 1048576 (line 7)",
    ),
    semantic(
        "a header section that does not fit into its window",
        with_top("limits:\n  request_header_bytes: 256KiB\n"),
        "limits.request_header_bytes: expected at most half of stream_window, which is 262144 "
        "octets, got 262144 (line 8)",
    ),
    structural(
        "how processes work together",
        with_top("steering: ebpf\nwatch: 1\nlimits: {backend_rows: 15}\n"),
        "steering: expected auto, kernel or userspace, got ebpf (line 7)",
        "watch: expected true or false, got 1 (line 8)",
        "limits.backend_rows: expected 16..4096, got 15 (line 9)",
    ),
    semantic(
        "impatient with workers",
        with_top("worker_timeout: 1999ms\n"),
        "worker_timeout: expected 0 or 2s..24h, got 1999ms (line 7)",
    ),
    semantic(
        "more backends than there are rows",
        LISTEN
        + UPSTREAM
        + "".join(f"      - {{address: '10.0.1.{n}:80'}}\n" for n in range(16))
        + "limits: {backend_rows: 16}\n",
        "upstream: has 17 different backends, more than limits.backend_rows, which is 16 (line 2)",
    ),
    structural(
        "nothing after the colon",
        with_top("drain_timeout:\n"),
        "drain_timeout: expected 0 or 1ms..24h, got nothing (line 7)",
    ),
    semantic(
        "a name server that is no address, and one with a port that is none",
        with_top("dns: {servers: [ns.example.com, 'fd00::53', '[fd00::53]:70000']}\n"),
        "dns.servers[0]: expected an IP address, or one with a port such as 10.0.0.53:5353 or "
        "[fd00::53]:53, got ns.example.com (line 7)",
        "dns.servers[2]: expected an IP address, or one with a port such as 10.0.0.53:5353 or "
        '[fd00::53]:53, got "[fd00::53]:70000" (line 7)',
    ),
    semantic(
        "number beyond all bounds",
        with_top(f"limits: {{backend_queue: {'9' * 5000}}}\n"),
        f"limits.backend_queue: expected 0..1000000, got {'9' * 57}... (line 7)",
    ),
    semantic(
        "custom tag",
        with_top("user: !env USER\n"),
        "user: the YAML tag !env is not supported (line 7)",
    ),
)

OLDER = (
    semantic(
        "top-level tls beside listen.tls",
        with_top("tls: {cert: b.pem}\n"),
        "tls: an older form that cannot stand beside listen with tls of its own; remove it "
        "(line 7)",
    ),
    semantic(
        "top-level backends beside upstream",
        with_top('backends: [{address: "h:1"}]\nload_balancing: {lb_type: random}\n'),
        "backends: an older form that cannot stand beside upstream; write upstream.NAME.backends "
        "(line 7)",
        "load_balancing: an older form that cannot stand beside upstream; "
        "write upstream.NAME.load_balancing (line 8)",
    ),
    semantic(
        "faults in the basic form keep its paths",
        "listen: {port: 443}\ntls: {cert: 5, crt: a}\nload_balancing: {lb_type: best}\n"
        'backends:\n  - {address: "h:1", weight: 1001}\n',
        'tls.crt: unknown key, did you mean "cert"? (line 2)',
        "load_balancing.lb_type: expected round-robin, random, least-connections, power-of-two, "
        "ewma, ring-hash, rendezvous or maglev, got best (line 3)",
        "backends[0].weight: expected 0..1000, got 1001 (line 5)",
    ),
    semantic(
        "health checks that differ",
        LISTEN + "upstream:\n  api:\n    route: {}\n    backends:\n"
        '      - {address: "a:1", health_check: {path: /a}}\n'
        '      - {address: "b:1", health_check: {path: /b}}\n',
        "upstream.api.backends[1].health_check: differs from the others of this upstream, which "
        "has one health_check for all backends; write it once, as upstream.api.health_check "
        "(line 7)",
    ),
    semantic(
        "fault in a health check under a backend",
        LISTEN + "upstream:\n  api:\n    route: {}\n    backends:\n"
        '      - {address: "a:1", health_check: {interval: 5000}}\n',
        f"upstream.api.backends[0].health_check.interval: {DURATION} 5000; a number needs its "
        "unit: write 5000ms or 5000s (line 6)",
    ),
)

TABLE = (*SYNTAX, *KEYS, *LISTENERS, *REST, *OLDER)
