"""Broken rate limits, each with exactly the messages that they must give."""

from tests.config.broken import semantic, structural, with_top, with_upstream

RATE = "expected a rate such as 100/s, 30/m, 1000/h or 5000/d, of 1..1000000, got"
NETWORK = "expected a network such as 10.0.0.0/8 or 2001:db8::/32, or an IP address, got"

TABLE = (
    structural(
        "a rate limit without its two words",
        with_top("rate_limits: [{}]\n"),
        "rate_limits[0].name: missing; it is in logs and in the RateLimit fields (line 7)",
        "rate_limits[0].rate: missing; write a rate such as 100/s (line 7)",
    ),
    structural(
        "odd words of a rate limit",
        with_top(
            "rate_limits:\n"
            "  - name: a b\n"
            "    rate: 5/w\n"
            "    key: header\n"
            "    algorithm: bucket\n"
            "    burst: 100001\n"
            "    delay: on\n"
            "    scope: all\n"
            "    ipv6_prefix: 129\n"
        ),
        "rate_limits[0].name: expected letters, digits, _, - or ., got a b (line 8)",
        f"rate_limits[0].rate: {RATE} 5/w (line 9)",
        "rate_limits[0].key: expected client_ip, header:NAME, cookie:NAME, query:NAME, path, "
        "authority, cid, upstream, backend or all, got header (line 10)",
        "rate_limits[0].algorithm: expected token-bucket, leaky-bucket or sliding-window, "
        "got bucket (line 11)",
        "rate_limits[0].burst: expected 0..100000, got 100001 (line 12)",
        "rate_limits[0].delay: expected 0..100000 or off, got on (line 13)",
        "rate_limits[0].scope: expected instance or worker, got all (line 14)",
        "rate_limits[0].ipv6_prefix: expected 16..128, got 129 (line 15)",
    ),
    structural(
        "a rate without a unit",
        with_upstream("rate_limits: [{name: x, rate: 100}]"),
        f"upstream.api.rate_limits[0].rate: {RATE} 100; a number needs its unit (line 7)",
    ),
    semantic(
        "rates out of range",
        with_top("rate_limits: [{name: x, rate: 1000001/s}, {name: y, rate: 0/s}]\n"),
        f"rate_limits[0].rate: {RATE} 1000001/s (line 7)",
        f"rate_limits[1].rate: {RATE} 0/s (line 7)",
    ),
    semantic(
        "odd networks",
        with_top("rate_limits: [{name: x, rate: 1/s, exempt: [10.0.0.1/8, here, '::1']}]\n"),
        "rate_limits[0].exempt[0]: expected no bits after the prefix: write 10.0.0.0/8 (line 7)",
        f"rate_limits[0].exempt[1]: {NETWORK} here (line 7)",
    ),
    semantic(
        "two limits with one name",
        with_upstream("rate_limits: [{name: x, rate: 1/s}]")
        + "rate_limits: [{name: x, rate: 1/s}]\n",
        "upstream.api.rate_limits[0].name: x is already the name of rate_limits[0] (line 7)",
    ),
    semantic(
        "what an algorithm does not have",
        with_top(
            "rate_limits:\n"
            "  - {name: a, rate: 1/s, burst: 0}\n"
            "  - {name: b, rate: 1/s, delay: off}\n"
            "  - {name: c, rate: 1/s, algorithm: sliding-window, burst: 5}\n"
            "  - {name: d, rate: 1/s, algorithm: leaky-bucket, burst: 62, delay: 1}\n"
        ),
        "rate_limits[0].burst: expected 1 at least: a token bucket of 0 lets nothing pass (line 8)",
        "rate_limits[1].delay: only a leaky-bucket delays requests: leave it out (line 9)",
        "rate_limits[2].burst: a sliding window has none: leave it out, or use token-bucket or "
        "leaky-bucket (line 10)",
        "rate_limits[3].burst: at 1/s the last of them would wait for 61 s, expected at most 60 s: "
        "lower it, or set delay higher or to off (line 11)",
    ),
    semantic(
        "what a limit of backends does not have",
        with_upstream(
            "rate_limits: [{name: a, rate: 9/s, key: backend, headers: always},\n"
            "      {name: b, rate: 9/s, key: backend, algorithm: leaky-bucket, burst: 2},\n"
            "      {name: c, rate: 9/s, key: backend, algorithm: leaky-bucket, burst: 2, delay: 2}]"
        ),
        "upstream.api.rate_limits[0].headers: what a backend has left is not what a client has: "
        "leave it out (line 7)",
        "upstream.api.rate_limits[1].delay: expected off: a limit of backends holds no request "
        "back, it asks another backend (line 8)",
    ),
    semantic(
        "more limits than there is room for",
        with_upstream("rate_limits: [{name: x, rate: 1/s}]")
        + f"rate_limits: [{', '.join(f'{{name: n{one}, rate: 1/s}}' for one in range(512))}]\n",
        "upstream.api.rate_limits: more than 512 rate limits in all: take some out (line 7)",
    ),
    semantic(
        "limits of routes that are none",
        with_top(
            "routes:\n"
            "  - {path_prefix: /a, respond: {status: 200}, rate_limits: [{name: a, rate: 1/s}]}\n"
            "  - {path_prefix: /b, split: {upstreams: {api: 1}},\n"
            "     rate_limits: [{name: b, rate: 1/s, key: backend}, {name: a, rate: 1/s}]}\n"
        ),
        "routes[1].rate_limits[0].key: a route has no backends: move the limit to the upstream, or "
        "count something else (line 10)",
        "routes[1].rate_limits[1].name: a is already the name of routes[0].rate_limits[0] "
        "(line 10)",
    ),
)
