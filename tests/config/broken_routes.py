"""Files with faults in what routes ask for and do. The routes begin on line 8."""

from tests.config.broken import Broken, semantic, structural, with_top


def rules(*lines: str) -> str:
    """A file whose upstream `api` takes all, with these rules from line 8 on."""
    return with_top("routes:\n" + "".join(f"  - {line}\n" for line in lines))


KNOWN = "there is no upstream nobody; there are api"
EXACTLY = "expected exactly one of exact, prefix, regex and present"
NO_EFFECT = "has no effect: this route asks no backend; remove it"
VARIABLES = "${client_ip}, ${request_id}, ${host}, ${method}, ${path}, ${upstream}"

TABLE: tuple[Broken, ...] = (
    semantic(
        "routes that match the same",
        rules(
            "{respond: {}}",
            "{path_prefix: /x, methods: [GET, PUT], query: {a: b}, respond: {}}",
            "{path_prefix: /x/, methods: [PUT, GET], query: {a: {exact: b}}, respond: {}, "
            "priority: 3}",
            "{path_prefix: /x, methods: [GET], query: {a: b}, respond: {}}",
            "{path_prefix: /x, headers: {X-A: b}, respond: {}}",
            "{path_prefix: /x, headers: {x-a: b}, redirect: {path: /y}}",
        ),
        "routes[0]: any host with / is already a route of api (line 8)",
        "routes[2]: any host with /x and the same conditions is already a route of routes[1] "
        "(line 10)",
        "routes[5]: any host with /x and the same conditions is already a route of routes[4] "
        "(line 13)",
    ),
    semantic(
        "a route that is never reached",
        rules(
            "{path_prefix: /x, respond: {}, priority: 1}",
            "{path_prefix: /x, methods: [GET], respond: {}}",
            "{path_prefix: /x, methods: [PUT], respond: {}, priority: 1}",
        ),
        "routes[1]: never reached: routes[0] takes every request for any host with /x, and its "
        "priority is 1 (line 9)",
    ),
    semantic(
        "upstreams that there are not",
        rules(
            "{path_prefix: /a, split: {upstreams: {api: 1, nobody: 1}}}",
            "{path_prefix: /b, split: {upstreams: {api: 1}}, mirror: {upstream: nobody}}",
            "{path_prefix: /c, split: {upstreams: {api: 0}}}",
        ),
        f"routes[0].split.upstreams.nobody: {KNOWN} (line 8)",
        f"routes[1].mirror.upstream: {KNOWN} (line 9)",
        "routes[2].split.upstreams: all weights are 0, so that nobody is left to ask (line 10)",
    ),
    semantic(
        "an upstream that there is not, beside a fault in one that there is",
        rules("{path_prefix: /b, split: {upstreams: {nobody: 1}}}").replace(
            "route: {", "route: {priority: x, "
        ),
        "upstream.api.route.priority: expected -1000000..1000000, got x (line 4)",
        f"routes[0].split.upstreams.nobody: {KNOWN} (line 8)",
    ),
    semantic(
        "patterns",
        rules(
            "{path_prefix: /a, headers: {x: {regex: '(a'}}, respond: {}}",
            "{path_prefix: /b, query: {x: {regex: '(a+)+'}}, respond: {}}",
        ),
        "routes[0].headers.x.regex: the pattern does not compile: missing ), unterminated "
        "subpattern at position 1 (line 8)",
        "routes[1].query.x.regex: the pattern has a repeat or alternatives inside a repeat; make "
        "it possessive ([^/]++ in place of [^/]+) or atomic, (?>...) (line 9)",
    ),
    semantic(
        "conditions",
        rules(
            "{path_prefix: /a, headers: {x: {}}, respond: {}}",
            "{path_prefix: /b, cookies: {x: {exact: a, prefix: b}}, respond: {}}",
            "{path_prefix: /c, query: {x: {present: true, invert: true}}, respond: {}}",
            "{path_prefix: /d, headers: {':path': a, 'a b': c}, methods: [get, 'a b'], "
            "respond: {}}",
        ),
        f"routes[0].headers.x: {EXACTLY} (line 8)",
        f"routes[1].cookies.x: {EXACTLY} (line 9)",
        "routes[2].query.x.invert: write present: false in place of both (line 10)",
        'routes[3].headers.":path": :path is no field of its own: host, path_prefix, methods and '
        "query ask for it (line 11)",
        'routes[3].headers."a b": expected the name of a header as the name (line 11)',
        "routes[3].methods[0]: methods are told apart by case: write GET (line 11)",
        'routes[3].methods[1]: expected a method such as GET, got "a b" (line 11)',
    ),
    semantic(
        "rewriting",
        rules(
            "{path_prefix: /a, split: {upstreams: {api: 1}}, rewrite: {prefix: x, host: '*.a'}}",
            "{path_prefix: /b, split: {upstreams: {api: 1}}, rewrite: {prefix: /x, regex: a}}",
            "{path_prefix: /c, split: {upstreams: {api: 1}}, rewrite: {to: /x}}",
            "{path_prefix: /d, split: {upstreams: {api: 1}}, "
            "rewrite: {regex: /(.*), to: '/\\g<x>'}}",
            "{path_prefix: /e, split: {upstreams: {api: 1}}, rewrite: {host: 'a:0'}}",
        ),
        "routes[0].rewrite.host: expected one host, not a wildcard (line 8)",
        "routes[0].rewrite.prefix: expected a path that begins with /, without query, fragment, "
        "space and non-ASCII, got x (line 8)",
        "routes[1].rewrite: has both prefix and regex; keep one (line 9)",
        "routes[1].rewrite: has regex and no to; they belong together (line 9)",
        "routes[2].rewrite: has to and no regex; they belong together (line 10)",
        "routes[3].rewrite.to: names a group that regex has not: x (line 11)",
        "routes[4].rewrite.host: expected a host such as www.example.com or www.example.com:8443, "
        'got "a:0" (line 12)',
    ),
    semantic(
        "header rules",
        rules(
            "{path_prefix: /a, split: {upstreams: {api: 1}}, request_headers: "
            "{set: {':path': x, Host: y, Connection: z, ok: '${cookie}'}, remove: [TE]}}",
            "{path_prefix: /b, respond: {}, response_headers: "
            "{set: {a: '${host}', A: b, c: '${host'}, add: {b: 'ä'}}}",
            "{path_prefix: /c, respond: {}, response_headers: {set: {a: b}, remove: [A]}}",
        ),
        "routes[0].request_headers.remove[0]: te is for one hop or frames the message; rules may "
        "not touch it (line 8)",
        'routes[0].request_headers.set.":path": :path is no field that rules may touch; rewrite '
        "has the path and host (line 8)",
        "routes[0].request_headers.set.Connection: connection is for one hop or frames the "
        "message; rules may not touch it (line 8)",
        "routes[0].request_headers.set.Host: the host is no field that rules may touch; write "
        "rewrite: {host: ...} (line 8)",
        f"routes[0].request_headers.set.ok: there is no variable ${{cookie}}; there are {VARIABLES}"
        " (line 8)",
        'routes[1].response_headers.add.b: expected visible ASCII, spaces inside, got "ä" (line 9)',
        "routes[1].response_headers.set.A: a is there already, in another spelling; keep one "
        "(line 9)",
        "routes[1].response_headers.set.c: ${host is not closed; what is to be sent as it is "
        "begins $${ (line 9)",
        "routes[2].response_headers.remove[0]: a is set as well, which replaces it (line 10)",
    ),
    semantic(
        "where a route leads",
        rules(
            "{path_prefix: /a}",
            "{path_prefix: /b, respond: {}, redirect: {path: /x}}",
            "{path_prefix: /c, respond: {}, rewrite: {prefix: /}, mirror: {upstream: api}}",
            "{path_prefix: /d, redirect: {}}",
            "{path_prefix: /e, redirect: {prefix: /e/}}",
            "{path_prefix: /f, redirect: {prefix: /g, path: /g}}",
            "{path_prefix: /g, respond: {body: a, file: b}}",
            "{path_prefix: /h, respond: {body: a, status: 204}}",
        ),
        "routes[0]: leads nowhere; write one of split, redirect and respond (line 8)",
        "routes[1]: has redirect and respond; keep one (line 9)",
        f"routes[2].mirror: {NO_EFFECT} (line 10)",
        f"routes[2].rewrite: {NO_EFFECT} (line 10)",
        "routes[3].redirect: leads back to the same URL; write host, path, prefix or scheme: http "
        "(line 11)",
        "routes[4].redirect: leads back to the same URL; write host, path, prefix or scheme: http "
        "(line 12)",
        "routes[5].redirect: has both path and prefix; keep one (line 13)",
        "routes[6].respond: has both body and file; keep one (line 14)",
        "routes[7].respond.body: a response with the status 204 has no content; remove it "
        "(line 15)",
    ),
    structural(
        "values of routes",
        rules(
            "{path_prefix: /a, redirect: {status: 304, path: /x}}",
            "{path_prefix: /b, respond: {status: 199}}",
            "{path_prefix: /c, split: {upstreams: {}, key: 'body:x'}}",
            "{path_prefix: /d, split: {upstreams: {api: 1}}, mirror: {upstream: api, "
            "percent: 101}}",
            "{path_prefix: /e, split: {}}",
            f"{{path_prefix: /f, respond: {{body: {'x' * 65537}}}}}",
        ),
        "routes[0].redirect.status: expected 301, 302, 303, 307 or 308, got 304 (line 8)",
        "routes[1].respond.status: expected 200..599, got 199 (line 9)",
        "routes[2].split.key: expected client_ip, header:NAME, cookie:NAME, query:NAME or random, "
        'got "body:x" (line 10)',
        "routes[2].split.upstreams: expected at least 1 in it, got 0 (line 10)",
        "routes[3].mirror.percent: expected a number in 0..100, got 101 (line 11)",
        "routes[4].split.upstreams: missing; write {NAME: WEIGHT, OTHER: WEIGHT} (line 12)",
        "routes[5].respond.body: is 65537 octets long, 65536 are allowed (line 13)",
    ),
)
