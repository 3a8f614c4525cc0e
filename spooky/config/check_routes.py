"""What must hold between routes, and between the keys of one; a part of `check.py`.

Pure: it looks at a Config alone.
"""

from collections.abc import Iterable, Iterator

from spooky.config.document import Finding, Places, Spot, key_of_upstream
from spooky.config.model import Config
from spooky.config.patterns import groups_of
from spooky.config.route_names import missing_group
from spooky.config.routes import (
    HeaderChanges,
    Match,
    Redirect,
    Respond,
    Rewrite,
    Route,
    Rule,
    Split,
)

_BODILESS = (204, 205, 304)
_NO_ROUTE = "missing; write {path_prefix: /} to take every request"


def check_routes(config: Config, known: Places) -> Iterator[Finding]:
    """Find routes that contradict each other or themselves."""
    routes = dict(all_routes(config))
    sound = {key: route for key, route in routes.items() if known.is_sound(key)}
    yield from _check_against_each_other(sound)
    for key, route in sound.items():
        yield from _check_matches(route, key)
        yield from _check_rewrite(route.rewrite, f"{key}.rewrite")
        for name in ("request_headers", "response_headers"):
            yield from _check_changes(getattr(route, name), f"{key}.{name}")
        if isinstance(route, Rule):
            yield from _check_rule(route, key)
    yield from _check_names(config, sound, known)
    if known.is_sound("routes"):
        yield from _check_reached(config, known)


def all_routes(config: Config) -> Iterator[tuple[str, Route]]:
    """List the routes of upstreams and of the top level, each with its key in the file."""
    for upstream in config.upstream:
        for index, route in enumerate(upstream.routes):
            yield f"{key_of_upstream(upstream.name)}.route[{index}]", route
    for index, rule in enumerate(config.routes):
        yield f"routes[{index}]", rule


def _below(key: str, name: str) -> str:
    """The key in `Places` of what has a name of the operator's choice."""
    return Spot(key, key, 0).child(name, 0).key


def _owner(key: str) -> str:
    """The upstream of a route, or the route itself where it is one of the top level."""
    return key.removeprefix("upstream.").rpartition(".route[")[0].strip('"') or key


# --- between routes ---------------------------------------------------------------------------


def _check_against_each_other(routes: dict[str, Route]) -> Iterator[Finding]:
    first: dict[tuple[object, ...], str] = {}
    widest: dict[tuple[str | None, str], tuple[int, str]] = {}
    for key, route in routes.items():
        if key != (same := first.setdefault(route.asks, key)):
            more = "" if _is_wide(route) else " and the same conditions"
            yield Finding(key, f"{_place(route)}{more} is already a route of {_owner(same)}")
        elif _is_wide(route):
            widest[route.host, route.path_prefix] = route.priority, key
    for key, route in routes.items():
        priority, owner = widest.get((route.host, route.path_prefix), (route.priority, ""))
        if route.priority < priority and not _is_wide(route):
            yield Finding(
                key,
                f"never reached: {owner} takes every request for {_place(route)}, and its "
                f"priority is {priority}",
            )


def _is_wide(route: Route) -> bool:
    return not (route.methods or route.headers or route.cookies or route.query)


def _place(route: Route) -> str:
    return f"{route.host or 'any host'} with {route.path_prefix}"


def _check_names(config: Config, routes: dict[str, Route], known: Places) -> Iterator[Finding]:
    names = {upstream.name for upstream in config.upstream}
    for key, route in routes.items():
        for here, name in _named(key, route):
            # Where it would stand, nothing may be unread.
            if name not in names and known.is_sound(key_of_upstream(name)):
                offered = ", ".join(sorted(names))
                yield Finding(here, f"there is no upstream {name}; there are {offered}")


def _named(key: str, route: Route) -> Iterator[tuple[str, str]]:
    """List the upstreams that a route names, each with the key of where it does."""
    if route.mirror is not None:
        yield f"{key}.mirror.upstream", route.mirror.upstream
    if isinstance(route, Rule) and route.split is not None:
        for name, _ in route.split.upstreams:
            yield _below(f"{key}.split.upstreams", name), name


def _check_reached(config: Config, known: Places) -> Iterator[Finding]:
    """An upstream that no route leads to was meant to have one."""
    led_to = {name for key, route in all_routes(config) for _, name in _named(key, route)}
    for upstream in config.upstream:
        key = f"{key_of_upstream(upstream.name)}.route"
        if not upstream.routes and upstream.name not in led_to and known.is_sound(key):
            yield Finding(key, _NO_ROUTE)


# --- within one route -------------------------------------------------------------------------


def _check_matches(route: Route, key: str) -> Iterator[Finding]:
    for place in ("headers", "cookies", "query"):
        matches: Iterable[tuple[str, Match]] = getattr(route, place)
        for name, match in matches:
            here = _below(f"{key}.{place}", name)
            given = (match.exact, match.prefix, match.regex, match.present)
            if sum(one is not None for one in given) != 1:
                yield Finding(here, "expected exactly one of exact, prefix, regex and present")
            elif match.present is not None and match.invert:
                opposite = "false" if match.present else "true"
                yield Finding(f"{here}.invert", f"write present: {opposite} in place of both")


def _check_rewrite(rewrite: Rewrite, key: str) -> Iterator[Finding]:
    if rewrite.prefix is not None and rewrite.regex is not None:
        yield Finding(key, "has both prefix and regex; keep one")
    if (rewrite.regex is None) != (rewrite.to is None):
        missing, there = ("to", "regex") if rewrite.to is None else ("regex", "to")
        yield Finding(key, f"has {there} and no {missing}; they belong together")
    elif rewrite.regex is not None and rewrite.to is not None:
        missing = missing_group(rewrite.to, *groups_of(rewrite.regex))
        if missing:
            yield Finding(f"{key}.to", f"names a group that regex has not: {missing}")


def _check_changes(changes: HeaderChanges, key: str) -> Iterator[Finding]:
    for index, name in enumerate(changes.remove):
        if name in dict(changes.set):
            yield Finding(f"{key}.remove[{index}]", f"{name} is set as well, which replaces it")


def _check_rule(rule: Rule, key: str) -> Iterator[Finding]:
    given = [name for name in ("split", "redirect", "respond") if getattr(rule, name) is not None]
    if not given:
        yield Finding(key, "leads nowhere; write one of split, redirect and respond")
    elif len(given) > 1:
        yield Finding(key, f"has {' and '.join(given)}; keep one")
    elif rule.split is not None:
        yield from _check_split(rule.split, f"{key}.split")
    else:
        yield from _check_unused(rule, key)
    if rule.redirect is not None:
        yield from _check_redirect(rule.redirect, rule.path_prefix, f"{key}.redirect")
    if rule.respond is not None:
        yield from _check_respond(rule.respond, f"{key}.respond")


def _check_unused(rule: Rule, key: str) -> Iterator[Finding]:
    """A route that answers by itself sends nothing to a backend."""
    unused = {
        "rewrite": rule.rewrite != Rewrite(),
        "request_headers": rule.request_headers != HeaderChanges(),
        "mirror": rule.mirror is not None,
    }
    for name in (name for name, is_there in unused.items() if is_there):
        yield Finding(f"{key}.{name}", "has no effect: this route asks no backend; remove it")


def _check_split(split: Split, key: str) -> Iterator[Finding]:
    if split.upstreams and not any(weight for _, weight in split.upstreams):
        yield Finding(f"{key}.upstreams", "all weights are 0, so that nobody is left to ask")


def _check_redirect(redirect: Redirect, prefix: str, key: str) -> Iterator[Finding]:
    if redirect.path is not None and redirect.prefix is not None:
        yield Finding(key, "has both path and prefix; keep one")
    path = redirect.path or redirect.prefix
    is_same_path = path is None or (
        redirect.path is None and path.rstrip("/") == prefix.rstrip("/")
    )
    if is_same_path and redirect.host is None and redirect.scheme == "https":
        yield Finding(key, "leads back to the same URL; write host, path, prefix or scheme: http")


def _check_respond(respond: Respond, key: str) -> Iterator[Finding]:
    content = [name for name in ("body", "file") if getattr(respond, name) is not None]
    if len(content) > 1:
        yield Finding(key, "has both body and file; keep one")
    if content and respond.status in _BODILESS:
        text = f"a response with the status {respond.status} has no content; remove it"
        yield Finding(f"{key}.{content[0]}", text)
