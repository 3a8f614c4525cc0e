"""Odd things that files have in them, each with exactly the messages that it must give."""

from spooky.config.tables import UPSTREAM as UPSTREAM_KEYS
from tests.config.broken import (
    DURATION,
    LISTEN,
    SIZE,
    UPSTREAM,
    Broken,
    semantic,
    structural,
    syntax,
    with_backend,
    with_listen,
    with_top,
    with_upstream,
)

TOP_KEYS = (
    "version, worker_processes, listen, upstream, routes, user, group, admin, log, limits, dns, "
    "steering, worker_timeout, watch, drain_timeout, pid, control, zone"
)
NO_ENCODING = (
    "is no percent-encoding: two hexadecimal digits follow a %; the % itself is written %25"
)
BACKEND = "upstream.api.backends[1].address:"


def backend(name: str, address: str, message: str) -> Broken:
    return semantic(
        name, with_backend(f"{{address: '{address}'}}"), f"{BACKEND} {message} (line 7)"
    )


def routes(name: str, *faults: tuple[str, str]) -> Broken:
    """An upstream with these routes, from line 6 on, each with what is said of it."""
    lines = "".join(f"      - {{{route}}}\n" for route, _ in faults)
    messages = [
        f"upstream.api.route[{index}].{route.partition(':')[0]}: {said} (line {6 + index})"
        for index, (route, said) in enumerate(faults)
    ]
    text = f"{LISTEN}upstream:\n  api:\n    backends: [{{address: 'h:1'}}]\n    route:\n{lines}"
    return semantic(name, text, *messages)


YAML = (
    syntax("nothing but a null", "~\n", "the file is empty: it needs at least listen and upstream"),
    syntax("a mark alone", "---\n", "the file is empty: it needs at least listen and upstream"),
    structural(
        "a word at the top", "hello\n", f"expected a mapping with the keys {TOP_KEYS}, got hello"
    ),
    syntax(
        "tab after spaces",
        with_top("limits:\n  \tbackend_queue: 5\n"),
        "not valid YAML: while scanning for the next token, found character '\\t' that cannot "
        "start any token, at column 3 (line 8)",
    ),
    syntax(
        "YAML of the future",
        f"%YAML 2.0\n---\n{LISTEN}{UPSTREAM}",
        "not valid YAML: found incompatible YAML document (version 1.* is required), at column 1 "
        "(line 1)",
    ),
    syntax(
        "anchor twice",
        f"listen: &a {{tls: {{cert: a.pem}}}}\n{UPSTREAM}log: &a {{level: info}}\n",
        "not valid YAML: found duplicate anchor 'a'; first occurrence that begins on line 1, "
        "second occurrence, at column 6 (line 7)",
    ),
    syntax(
        "wildcard without quotes",
        LISTEN + "upstream: {a: {route: {host: *.a}}}\n",
        "not valid YAML: while scanning an alias, expected alphabetic or numeric character, but "
        "found '.', at column 31 (line 2)",
    ),
    semantic(
        "byte order mark in the middle",
        f"{LISTEN}\ufeff{UPSTREAM}",
        '"\\ufeffupstream": unknown key, did you mean "upstream"? (line 2)',
    ),
    semantic(
        "section that contains itself",
        LISTEN + "upstream: &u {api: *u}\n",
        f"upstream.api.api: unknown key; known here: {', '.join(UPSTREAM_KEYS.fields)} (line 2)",
        "upstream.api.backends: missing; write [{address: HOST:PORT}] (line 2)",
        "upstream.api.route: missing; write {path_prefix: /} to take every request (line 2)",
    ),
    semantic(
        "aliases of aliases",
        f"{LISTEN}{UPSTREAM}a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        f"a: unknown key; known here: {TOP_KEYS} (line 7)",
        f"b: unknown key; known here: {TOP_KEYS} (line 8)",
        f"c: unknown key; known here: {TOP_KEYS} (line 9)",
    ),
    semantic(
        "section twice",
        LISTEN + LISTEN + UPSTREAM,
        "listen: stands here a second time, after line 1; keep one (line 2)",
    ),
    semantic(
        "tag for a program",
        with_top("user: !!python/object/apply:os.system [ls]\ngroup: !!binary aGVsbG8=\n"),
        "user: expected the name of a user, got a list (line 7)",
        "group: the YAML tag binary is not supported (line 8)",
    ),
    semantic(
        "letters that turn the text around",
        with_top('"a\\u202eb": 1\nuser: "a\\u202eb"\n'),
        f'"a\\u202eb": unknown key; known here: {TOP_KEYS} (line 7)',
        'user: expected the name of a user, got "a\\u202eb" (line 8)',
    ),
)

NUMBERS = (
    semantic(
        "numbers of other kinds",
        with_top(
            "worker_processes: .nan\ndrain_timeout: .inf\nlimits:\n  backend_queue: 0x10\n"
            "  backend_streams: 4_433\n  backend_connections: 010\n  backend_rows: 1e2\n"
            "  request_header_count: 7:23\n  streams_per_connection: 3.0\n"
        ),
        *(
            f"{key}: expected {span} as a whole number in plain decimal, got {got} (line {line})"
            for key, span, got, line in (("worker_processes", "auto or 1..128", ".nan", 7),)
        ),
        f"drain_timeout: {DURATION} .inf (line 8)",
        *(
            f"limits.{key}: expected {span} as a whole number in plain decimal, got {got} "
            f"(line {line})"
            for key, span, got, line in (
                ("backend_queue", "0..1000000", "0x10", 10),
                ("backend_streams", "1..65535", "4_433", 11),
                ("backend_connections", "1..1024", "010", 12),
                ("backend_rows", "16..4096", "1e2", 13),
                ("request_header_count", "1..10000", "7:23", 14),
                ("streams_per_connection", "1..65535", "3.0", 15),
            )
        ),
    ),
    semantic(
        "durations and sizes of other kinds",
        with_top(
            "drain_timeout: 2024-01-01\nworker_timeout: 1m30s\nlimits:\n"
            "  client_idle_timeout: -1s\n  backend_idle_timeout: 5 s\n  stream_window: 1.5MiB\n"
            "  response_buffer: 64KB\n  request_body_bytes: 99999999999999GiB\n"
        ),
        f"drain_timeout: {DURATION} 2024-01-01 (line 7)",
        f"worker_timeout: {DURATION} 1m30s (line 8)",
        f"limits.client_idle_timeout: {DURATION} -1s (line 10)",
        f"limits.backend_idle_timeout: {DURATION} 5 s (line 11)",
        f"limits.stream_window: {SIZE} 1.5MiB (line 12)",
        f"limits.response_buffer: {SIZE} 64KB (line 13)",
        "limits.request_body_bytes: expected 0..1024GiB, got 99999999999999GiB (line 14)",
    ),
    structural(
        "workers in quotes",
        with_top('worker_processes: "4"\n'),
        'worker_processes: expected auto or 1..128 without quotes, got "4" (line 7)',
    ),
    semantic(
        "a number that no machine holds",
        with_top(f"version: {'9' * 5000}\n"),
        f"version: expected 1, got {'9' * 57}... (line 7)",
    ),
)

LISTENERS = (
    semantic(
        "IPv4 address in the form of IPv6",
        with_listen(
            "listen:\n  - {address: 10.0.0.1, tls: {cert: a.pem}}\n"
            "  - {address: '::ffff:10.0.0.1', tls: {cert: a.pem}}\n"
        ),
        "listen[1]: 10.0.0.1 port 443 is already taken by listen[0] (line 3)",
    ),
    semantic(
        "addresses that cannot be bound",
        with_listen(
            "listen:\n  - {address: 'fe80::1%lo', tls: {cert: a.pem}}\n"
            "  - {address: 224.0.0.1, tls: {cert: a.pem}}\n"
            "  - {address: '[::]', tls: {cert: a.pem}}\n"
        )
        + "admin: {address: 255.255.255.255}\n",
        "listen[0].address: an address with a zone (%...) cannot be bound; write :: or another one "
        "(line 2)",
        "listen[1].address: 224.0.0.1 is the address of no single machine; it cannot be bound "
        "(line 3)",
        "listen[2].address: expected an IP address such as 0.0.0.0 or ::, without brackets, "
        'got "[::]" (line 4)',
        "admin.address: 255.255.255.255 is the address of no single machine; it cannot be bound "
        "(line 10)",
    ),
    semantic(
        "wildcards as server names",
        with_listen(
            "listen:\n  tls:\n    cert: a.pem\n    certificates:\n"
            "      - {server_name: '*', cert: b.pem}\n"
            "      - {server_name: 'a.*', cert: b.pem}\n"
            "      - {server_name: '*.*.a', cert: b.pem}\n"
            "      - {server_name: '*.a.', cert: b.pem}\n"
            "      - {server_name: '*.A', cert: b.pem}\n"
        ),
        *(
            f"listen.tls.certificates[{index}].server_name: expected a DNS name, or *. and a DNS "
            f'name, got "{got}" (line {line})'
            for index, got, line in ((0, "*", 5), (1, "a.*", 6), (2, "*.*.a", 7))
        ),
        "listen.tls.certificates[4].server_name: *.a already has a certificate, in "
        "certificates[3] (line 9)",
    ),
)

BACKENDS = (
    backend("port of nothing", "h:0", "expected a port of 1..65535, got 0"),
    backend("port that looks octal", "h:0080", "expected a port of 1..65535, got 0080"),
    backend("port in other digits", "h:\u0661", "expected a port of 1..65535, got \u0661"),
    backend(
        "IPv4 address twice, once as IPv6",
        "[::ffff:10.0.0.1]:8080",
        "10.0.0.1:8080 is already the address of backends[0]",
    ),
    backend(
        "everywhere as a backend",
        "0.0.0.0:80",
        "0.0.0.0 is an address to listen on; write the backend's own",
    ),
    backend(
        "everybody as a backend",
        "[ff02::1]:80",
        "ff02::1 is the address of no single machine; write the backend's own",
    ),
    backend(
        "link-local without zone",
        "[fe80::1]:80",
        "a link-local address needs its zone, as in [fe80::1%eth0]:8080",
    ),
    backend(
        "zone as in a URI",
        "[fe80::1%25eth0]:80",
        "expected the name of an interface after %, got 25eth0",
    ),
    backend(
        "IPv4 in brackets",
        "[10.0.0.2]:80",
        "brackets are for IPv6 addresses: write host:port without them",
    ),
    backend(
        "address in hexadecimal",
        "0x7f000001:80",
        'expected host:port, http://host:port or https://host, got "0x7f000001:80"',
    ),
    backend(
        "wildcard as a backend",
        "*.example.com:80",
        'expected host:port, http://host:port or https://host, got "*.example.com:80"',
    ),
    backend(
        "two dots", "a..b:80", 'expected host:port, http://host:port or https://host, got "a..b:80"'
    ),
    backend("name in Unicode", "käse.example:80", "write the name in its ASCII form (xn--...)"),
    backend(
        "Unix socket",
        "unix:/run/app.sock",
        "backends on Unix sockets are not supported: write host:port",
    ),
    semantic(
        "more backends than anybody has",
        f"{LISTEN}upstream:\n  api:\n    route: {{}}\n    backends: ["
        + ", ".join(f'{{address: "h{number}:1"}}' for number in range(2000))
        + "]\n",
        "upstream: has 2000 different backends, more than limits.backend_rows, which is 256 "
        "(line 2)",
    ),
    structural(
        "nothing as a backend",
        with_backend("~"),
        f"{BACKEND} missing; write host:port, or https://host:port for TLS (line 7)",
    ),
)

ROUTES = (
    routes(
        "wildcards and addresses as hosts",
        ("host: '*.*.a'", 'expected a host such as api.example.com or *.example.com, got "*.*.a"'),
        ("host: '*a.b'", 'expected a host such as api.example.com or *.example.com, got "*a.b"'),
        ("host: '*.'", 'expected a host such as api.example.com or *.example.com, got "*."'),
        ("host: 1.5", "expected a host such as api.example.com or *.example.com, got 1.5"),
        (
            "host: '[fe80::1%eth0]'",
            "brackets are for an IPv6 address without zone, as in [2001:db8::1]",
        ),
        (
            "host: '[10.0.0.1]'",
            "brackets are for an IPv6 address without zone, as in [2001:db8::1]",
        ),
        ("host: https://a", "expected a host alone, without scheme or port, got https://a"),
    ),
    routes(
        "prefixes that match nothing",
        *(
            (
                f"path_prefix: '{prefix}'",
                f"{got} {NO_ENCODING}",
            )
            for prefix, got in (("/%zz", "%zz"), ("/a%2", "%2"), ("/100%", "%"), ("/%2/a", "%2/"))
        ),
        *(
            (
                f"path_prefix: '{prefix}'",
                "a path prefix is a path alone: no query, fragment, space or non-ASCII",
            )
            for prefix in ("/a#b", "/a?", "/a b", "/ä", "/a\\b")
        ),
        ('path_prefix: "/a\\tb"', 'expected a path such as /api, got "/a\\tb"'),
        ('path_prefix: "/a\\x7f"', 'expected a path such as /api, got "/a\\x7f"'),
        ("path_prefix: //a", "a path prefix has no empty, . or .. segments"),
        (
            "path_prefix: '/api/*'",
            "a prefix is no pattern and serves all paths below it: write /api",
        ),
    ),
    structural(
        "word for a section",
        with_upstream("load_balancing: random\n"),
        "upstream.api.load_balancing: expected a mapping with the keys type, got random (line 7)",
    ),
)

TABLE = (*YAML, *NUMBERS, *LISTENERS, *BACKENDS, *ROUTES)
