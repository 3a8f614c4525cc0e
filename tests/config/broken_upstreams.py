"""Broken upstreams and backends, each with exactly the messages that they must give."""

from tests.config.broken import (
    DURATION,
    LISTEN,
    semantic,
    structural,
    with_backend,
    with_top,
    with_upstream,
)

UPSTREAMS = (
    structural(
        "upstream as a list",
        LISTEN + "upstream:\n  - name: api\n",
        "upstream: expected a mapping of names, got a list (line 2)",
    ),
    structural(
        "no upstream in it",
        LISTEN + "upstream: {}\n",
        "upstream: expected at least one name in it, got none (line 2)",
    ),
    structural(
        "odd upstream name",
        LISTEN + 'upstream:\n  "a b": {route: {}, backends: [{address: "h:1"}]}\n',
        'upstream."a b": expected letters, digits, _, - or . as the name (line 3)',
    ),
    structural(
        "neither route nor backends",
        LISTEN + "upstream:\n  api:\n    timeouts: {}\n",
        "upstream.api.backends: missing; write [{address: HOST:PORT}] (line 3)",
        "upstream.api.route: missing; write {path_prefix: /} to take every request (line 3)",
    ),
    structural(
        "no backend in the list",
        LISTEN + "upstream:\n  api:\n    route: {}\n    backends: []\n",
        "upstream.api.backends: expected at least 1 in the list, got none (line 5)",
    ),
    semantic(
        "duplicate route over upstreams",
        with_top(
            "  more:\n    route:\n      - {host: a.example}\n      - path_prefix: /\n"
            "    backends: [{address: 'h:1'}]\n"
        ),
        "upstream.more.route[1]: any host with / is already a route of api (line 10)",
    ),
    semantic(
        "duplicate route after normalization",
        LISTEN + "upstream:\n  api:\n    route:\n      - {host: A.Example., path_prefix: /x/}\n"
        "      - {host: a.example, path_prefix: /x}\n    backends: [{address: 'h:1'}]\n",
        "upstream.api.route[1]: a.example with /x is already a route of api (line 6)",
    ),
    semantic(
        "route hosts",
        LISTEN + "upstream:\n  api:\n    backends: [{address: 'h:1'}]\n    route:\n"
        "      - {host: '*'}\n"
        "      - {host: 'a.example:443'}\n"
        "      - {host: 'a.*.example'}\n"
        "      - {host: 'käse.example'}\n",
        "upstream.api.route[0].host: leave host out to match every host (line 6)",
        "upstream.api.route[1].host: expected a host alone, without scheme or port, "
        "got a.example:443 (line 7)",
        "upstream.api.route[2].host: expected a host such as api.example.com or *.example.com, "
        'got "a.*.example" (line 8)',
        "upstream.api.route[3].host: write the name in its ASCII form (xn--...) (line 9)",
    ),
    semantic(
        "route prefixes",
        LISTEN + "upstream:\n  api:\n    backends: [{address: 'h:1'}]\n    route:\n"
        "      - {path_prefix: api}\n"
        "      - {path_prefix: '/a?b'}\n"
        "      - {path_prefix: /a/../b}\n"
        "      - {path_prefix: /a/%2e}\n"
        "      - {path_prefix: /a/%2E}\n"
        "      - {path_prefix: /%61/b%7E%2fc}\n",
        "upstream.api.route[0].path_prefix: a path prefix begins with a slash: write /api (line 6)",
        "upstream.api.route[1].path_prefix: a path prefix is a path alone: no query, fragment, "
        "space or non-ASCII (line 7)",
        "upstream.api.route[2].path_prefix: a path prefix has no empty, . or .. segments (line 8)",
        "upstream.api.route[3].path_prefix: a path prefix has no empty, . or .. segments (line 9)",
        "upstream.api.route[4].path_prefix: a path prefix has no empty, . or .. segments (line 10)",
        "upstream.api.route[5].path_prefix: letters, digits and -._~ are not percent-encoded in a "
        "path prefix; write it decoded: /a/b~%2fc (line 11)",
    ),
    structural(
        "algorithm that nobody knows",
        with_upstream("load_balancing: {type: best}\n"),
        "upstream.api.load_balancing.type: expected round-robin, random, least-connections, "
        "power-of-two, ewma, ring-hash, rendezvous or maglev, got best (line 7)",
    ),
    structural(
        "what cannot be hashed, and too tight a bound",
        with_upstream("load_balancing: {type: ring-hash, key: 'header:', bound: 99}\n"),
        "upstream.api.load_balancing.bound: expected 100..10000, got 99 (line 7)",
        "upstream.api.load_balancing.key: expected client_ip, header:NAME, cookie:NAME, "
        'query:NAME, path, authority or cid, got "header:" (line 7)',
    ),
    semantic(
        "a hash of nothing",
        with_upstream("load_balancing: {type: maglev}\n"),
        "upstream.api.load_balancing.key: missing; maglev hashes it: write client_ip, "
        "header:NAME, cookie:NAME, query:NAME, path, authority or cid (line 7)",
    ),
    semantic(
        "a key that nothing hashes",
        with_upstream("load_balancing: {type: rr, key: path}\n"),
        "upstream.api.load_balancing.key: round-robin hashes nothing; remove key, or write "
        "type: ring-hash (line 7)",
    ),
    semantic(
        "a type that brings another key",
        with_upstream("load_balancing: {type: ip-hash, key: cid}\n"),
        "upstream.api.load_balancing.key: that type hashes client_ip; remove key, or write "
        "type: ring-hash (line 7)",
    ),
    structural(
        "durations without unit",
        with_upstream("timeouts:\n  connect: 5\n  idle: 1.5\n  total: soon\n  queue: 0s\n"),
        f"upstream.api.timeouts.connect: {DURATION} 5; a number needs its unit: "
        "write 5ms or 5s (line 8)",
        f"upstream.api.timeouts.idle: {DURATION} 1.5; a number needs its unit: write 1.5s (line 9)",
        f"upstream.api.timeouts.total: {DURATION} soon (line 10)",
        "upstream.api.timeouts.queue: expected 1ms..24h, got 0s (line 11)",
    ),
    semantic(
        "probes that overlap",
        with_upstream("health_check: {interval: 1s, timeout: 2s}\n"),
        "upstream.api.health_check.timeout: is longer than interval, so that probes would overlap "
        "(line 7)",
    ),
    semantic(
        "a cooldown over its limit",
        with_upstream("health_check: {cooldown: 3s, max_cooldown: 2s}\n"),
        "upstream.api.health_check.max_cooldown: is shorter than cooldown, which it limits "
        "(line 7)",
    ),
    semantic(
        "keys of other types of probe",
        with_upstream("health_check:\n  type: tcp\n  path: /health\n  command: [a]\n  host: b\n"),
        "upstream.api.health_check.path: belongs to type http, and this check is of type tcp "
        "(line 9)",
        "upstream.api.health_check.command: belongs to type command, and this check is of type tcp "
        "(line 10)",
        "upstream.api.health_check.host: belongs to type http or grpc, and this check is of type "
        "tcp (line 11)",
    ),
    semantic(
        "a command that is none",
        with_upstream("health_check: {type: command}\n"),
        "upstream.api.health_check.command: missing; write [/path/of/program, ARGUMENT] (line 7)",
    ),
    semantic(
        "TLS where none is spoken",
        with_upstream("health_check: {type: tls}\n"),
        "upstream.api.health_check.type: tls can only be probed where it is spoken: one is no "
        "https:// (line 7)",
    ),
    semantic(
        "content of an answer that has none",
        with_upstream("health_check: {method: HEAD, body: well}\n"),
        "upstream.api.health_check.body: an answer to HEAD has no content (line 7)",
    ),
    semantic(
        "two things to look for",
        with_upstream("health_check: {body: a, body_regex: b}\n"),
        "upstream.api.health_check.body_regex: there is body as well; keep one (line 7)",
    ),
    structural(
        "values of a health check",
        with_upstream(
            "health_check:\n  type: ping\n  status: 99-200\n  jitter: 60%\n  method: get\n"
            "  body_regex: '('\n  command: []\n  max_cooldown: 0\n"
        ),
        "upstream.api.health_check.type: expected http, grpc, tcp, tls or command, got ping "
        "(line 8)",
        "upstream.api.health_check.status: expected statuses such as 200 or 200-299,404, from 200 "
        "to 599, got 99-200 (line 9)",
        "upstream.api.health_check.jitter: expected 0%..50%, got 60% (line 10)",
        "upstream.api.health_check.method: expected a method such as GET, HEAD or OPTIONS, got get "
        "(line 11)",
        "upstream.api.health_check.body_regex: is no regular expression: missing ), unterminated "
        "subpattern at position 0 (line 12)",
        "upstream.api.health_check.command: expected at least 1 in the list, got none (line 13)",
        "upstream.api.health_check.max_cooldown: expected 1ms..24h, got 0 (line 14)",
    ),
    semantic(
        "a backend with two opinions of its health",
        f"{LISTEN}upstream:\n"
        "  a: {route: {host: a}, backends: [{address: 'h:1'}], health_check: {path: /a}}\n"
        "  b: {route: {host: b}, backends: [{address: 'h:1'}], health_check: {path: /b}}\n"
        "  c: {route: {host: c}, backends: [{address: 'h:1'}]}\n",
        "upstream.b.health_check: h:1 is also in a, which has another health_check, and a backend "
        "has one health: write the same in both, or probe it from one alone (line 4)",
    ),
    structural(
        "passive health that is none",
        with_upstream(
            "passive_health:\n  consecutive_5xx: -1\n  latency_factor: '3'\n  window: 0\n"
            "  success_rate_stdev_factor: 1e3\n  max_ejection_percent: 0\n"
        ),
        "upstream.api.passive_health.consecutive_5xx: expected 0..1000000, got -1 (line 8)",
        'upstream.api.passive_health.latency_factor: expected a number of 0..1000, got "3" '
        "(line 9)",
        "upstream.api.passive_health.window: expected 100ms..24h, got 0 (line 10)",
        "upstream.api.passive_health.success_rate_stdev_factor: expected a number of 0..100, "
        "got 1e3 (line 11)",
        "upstream.api.passive_health.max_ejection_percent: expected 1..100, got 0 (line 12)",
    ),
    semantic(
        "times that contradict each other",
        with_upstream(
            "passive_health: {ejection_time: 10m, max_ejection_time: 5m}\n"
            "circuit_breaker: {open_time: 2m, max_open_time: 1m, trials: 1, trial_successes: 2}\n"
        ),
        "upstream.api.passive_health.max_ejection_time: is shorter than ejection_time (line 7)",
        "upstream.api.circuit_breaker.max_open_time: is shorter than open_time (line 8)",
        "upstream.api.circuit_breaker.trial_successes: is more than trials, which is 1, so that "
        "it would never close (line 8)",
    ),
    semantic(
        "a breaker that nothing opens",
        with_upstream("circuit_breaker: {consecutive_failures: 0, failure_percent: 0}\n"),
        "upstream.api.circuit_breaker: opens by nothing; give consecutive_failures or "
        "failure_percent, or leave it out (line 7)",
    ),
    structural(
        "truth that is none",
        with_upstream("tls: {verify: maybe}\n"),
        "upstream.api.tls.verify: expected true or false, got maybe (line 7)",
    ),
    semantic(
        "client key without certificate",
        with_upstream("tls: {client_key: c.key}\n"),
        "upstream.api.tls.client_key: there is no client_cert that it is the key of (line 7)",
    ),
    semantic(
        "passphrase for no key",
        with_upstream("tls: {passphrase_file: c.pass}\n"),
        "upstream.api.tls.passphrase_file: there is no client_cert whose key it would open "
        "(line 7)",
    ),
)

BACKENDS = (
    structural(
        "weight of nothing",
        with_backend('{id: two, address: "h:1", weight: 1001}'),
        "upstream.api.backends[1].weight: expected 0..1000, got 1001 (line 7)",
    ),
    structural(
        "text for a backend",
        with_backend('"10.0.0.2:8080"'),
        "upstream.api.backends[1]: expected a mapping with the keys id, address, weight, "
        'priority, zone, got "10.0.0.2:8080" (line 7)',
    ),
    structural(
        "no address",
        with_backend("{id: two}"),
        "upstream.api.backends[1].address: missing; write host:port, or https://host:port for TLS "
        "(line 7)",
    ),
    semantic(
        "id twice, beside another fault",
        with_backend('{id: one, address: "h:1", weight: 2000}'),
        "upstream.api.backends[1].id: one is already the id of backends[0] (line 7)",
        "upstream.api.backends[1].weight: expected 0..1000, got 2000 (line 7)",
    ),
    semantic(
        "address twice",
        with_backend('{address: "http://10.0.0.1:8080"}'),
        "upstream.api.backends[1].address: 10.0.0.1:8080 is already the address of backends[0] "
        "(line 7)",
    ),
    semantic(
        "no port",
        with_backend("{address: backend.internal}"),
        "upstream.api.backends[1].address: the port is missing: write backend.internal:PORT, "
        "or https://backend.internal for port 443 (line 7)",
    ),
    semantic(
        "port out of range",
        with_backend('{address: "h:99999"}'),
        "upstream.api.backends[1].address: expected a port of 1..65535, got 99999 (line 7)",
    ),
    semantic(
        "address with a path",
        with_backend("{address: 'https://h/api'}"),
        "upstream.api.backends[1].address: a backend address has no path or query: requests keep "
        "the path that the client asked for; write host:port alone (line 7)",
    ),
    semantic(
        "address with a password",
        with_backend("{address: 'https://me:secret@h'}"),
        "upstream.api.backends[1].address: a backend address has no user name or password; "
        "write host:port alone (line 7)",
    ),
    semantic(
        "IPv6 without brackets",
        with_backend('{address: "2001:db8::1:8080"}'),
        "upstream.api.backends[1].address: an IPv6 address stands in brackets, "
        "as in [2001:db8::1]:8080 (line 7)",
    ),
    semantic(
        "unknown scheme",
        with_backend('{address: "grpc://h:1"}'),
        "upstream.api.backends[1].address: grpc:// is not supported: write host:port or http:// "
        "for cleartext HTTP/2, https:// for HTTP/2 over TLS (line 7)",
    ),
    semantic(
        "impossible IPv4 address",
        with_backend('{address: "10.0.0.256:80"}'),
        "upstream.api.backends[1].address: expected host:port, http://host:port or https://host, "
        'got "10.0.0.256:80" (line 7)',
    ),
)

ADMISSION = (
    structural(
        "odd limits",
        with_upstream(
            "admission: {max_in_flight: -1, shed_from: 1.5, priority: urgent, "
            "priority_header: a b}\n"
            "backend_limits: {max_in_flight: many}"
        ),
        "upstream.api.admission.max_in_flight: expected 0..1000000, got -1 (line 7)",
        "upstream.api.admission.priority: expected high, normal, low or 0..7, got urgent (line 7)",
        "upstream.api.admission.priority_header: expected the name of a field, such as priority, "
        "got a b (line 7)",
        "upstream.api.admission.shed_from: expected a number in 0..1, got 1.5 (line 7)",
        "upstream.api.backend_limits.max_in_flight: expected 0..1000000, got many (line 8)",
    ),
    structural(
        "a priority of no class",
        with_upstream("admission: {priority: 8}"),
        "upstream.api.admission.priority: expected high, normal, low or 0..7, got 8 (line 7)",
    ),
    semantic(
        "a queue before no limit",
        with_top("admission: {queue: 5, shed_from: 0.5}\n"),
        "admission.queue: there is no limit; write max_in_flight or adaptive as well (line 7)",
        "admission.shed_from: there is no limit; write max_in_flight or adaptive as well (line 7)",
    ),
    semantic(
        "trust in no field",
        with_upstream("admission: {queue: 5, trust_priority: true}"),
        "upstream.api.admission.queue: there is no limit; write max_in_flight or adaptive as well "
        "(line 7)",
        "upstream.api.admission.trust_priority: there is no priority_header to trust; name it "
        "(line 7)",
    ),
    semantic(
        "bounds that contradict each other",
        with_upstream("admission: {adaptive: {min: 50, max: 10}}"),
        "upstream.api.admission.adaptive.min: expected at most max, which is 10, got 50 (line 7)",
    ),
    semantic(
        "a start out of bounds",
        with_top("admission: {adaptive: {max: 10}}\n"),
        "admission.adaptive.start: expected 3..10, as min and max are, got 20 (line 7)",
    ),
)

CHOICE = (
    semantic(
        "cookies of the same name",
        LISTEN
        + "upstream:\n"
        + "".join(
            f"  {name}:\n    route: {{path_prefix: /{name}}}\n    backends: [{{address: 'h:1'}}]\n"
            "    session_persistence: {name: sid}\n"
            for name in ("api", "web")
        ),
        "upstream.web.session_persistence.name: sid is already the cookie of api: each would undo "
        "what the other did (line 10)",
    ),
    semantic(
        "a cookie that no browser takes",
        with_upstream("session_persistence: {name: __Host-sid, path: /app}\n"),
        "upstream.api.session_persistence.path: expected /, without which browsers refuse "
        "__Host-sid, got /app (line 7)",
    ),
    structural(
        "odd sessions, tiers and zones",
        with_upstream(
            "panic_threshold: 101\n"
            "session_persistence: {type: ip, name: 'a b', timeout: 0.5s, path: /;x}\n"
        ),
        "upstream.api.panic_threshold: expected 0..100, got 101 (line 7)",
        "upstream.api.session_persistence.name: expected a cookie's name: letters, digits and "
        '!#$%&\'*+.^_`|~-, at most 64 of them, got "a b" (line 8)',
        "upstream.api.session_persistence.path: expected a path that begins with /, without ;, "
        "got /;x (line 8)",
        "upstream.api.session_persistence.timeout: expected 0 or 1s..8760h, got 0.5s (line 8)",
        "upstream.api.session_persistence.type: expected cookie, got ip (line 8)",
    ),
)

TABLE = (*UPSTREAMS, *BACKENDS, *CHOICE, *ADMISSION)
