"""Two older forms of the file, turned into the present one before it is read.

The basic form has `tls`, `backends` and `load_balancing` at the top level; an older one has
`health_check` under each backend. Only nodes are moved, with their lines; nothing is read or
judged here beyond what cannot be moved. Problems keep the path that the file has, by `moved`,
and what was moved gives a notice that shows the present form.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from spooky.config.document import Reading, Spot, is_null, line_of

_MAP = "tag:yaml.org,2002:map"
_STR = "tag:yaml.org,2002:str"
_UPSTREAM = "default"
_DEEPEST = 4

Pair = tuple[yaml.Node, yaml.Node]


@dataclass(slots=True)
class Adoption:
    """What turning an older form into the present one gathers."""

    reading: Reading
    moved: dict[str, str] = field(default_factory=dict)
    basic: dict[str, int] = field(default_factory=dict)
    """The basic form's keys that were moved, and their lines."""
    checks: dict[str, int] = field(default_factory=dict)
    """The upstreams whose health_check was under a backend, and the line of it."""

    def refuse(self, spot: Spot, text: str) -> None:
        """Record that something cannot be moved."""
        self.reading.refuse(self.reading.enter(spot), text)


def adopt(root: yaml.Node, reading: Reading) -> tuple[yaml.Node, Adoption]:
    """Return the root in the present form, and what had to be moved for that."""
    adoption = Adoption(reading)
    if isinstance(root, yaml.MappingNode):
        root = _adopt_backends(_adopt_tls(root, adoption), adoption)
        root = _adopt_checks(root, adoption)
        reading.moved = adoption.moved
    return root, adoption


def notices(root: yaml.Node, adoption: Adoption) -> Iterator[str]:
    """Say what was moved, with the present form. `root` is a root that was read in good order."""
    if adoption.basic:
        keys = ", ".join(adoption.basic)
        present = ["listen"] if list(adoption.basic) == ["tls"] else ["listen", "upstream"]
        parts = [pair for pair in _pairs(root) if _key(pair) in present]
        line = min(adoption.basic.values())
        yield (
            f"{keys}: an older form at the top level (line {line}); write in its place:\n"
            + _snippet(_mapping(parts, root))
        )
    for name, line in adoption.checks.items():
        upstream = _find(_find(root, "upstream"), name)
        check = [pair for pair in _pairs(upstream) if _key(pair) == "health_check"]
        wanted = _wrap("upstream", _wrap(name, _mapping(check, root)))
        yield (
            f"upstream.{name}: health_check under a backend is an older form (line {line}); it is "
            "used for all backends of the upstream. Take it out of the backends and write:\n"
            + _snippet(wanted)
        )


# --- the basic form ---------------------------------------------------------------------------


def _adopt_tls(root: yaml.MappingNode, adoption: Adoption) -> yaml.MappingNode:
    own, rest = _split(root, ("tls",))
    if not own:
        return root
    listen = _find(root, "listen")
    spot = Spot("", "", 0).child("tls", line_of(own[0][0]))
    if isinstance(listen, yaml.SequenceNode) or _find(listen, "tls") is not None:
        adoption.refuse(
            spot, "an older form that cannot stand beside listen with tls of its own; remove it"
        )
    if listen is None:
        rest.append((_scalar("listen", own[0][0]), _mapping([], own[0][0])))
    elif not is_null(listen) and (not isinstance(listen, yaml.MappingNode) or _find(listen, "tls")):
        return _mapping(rest, root)
    adoption.basic["tls"] = spot.line
    adoption.moved["listen[0].tls"] = "tls"
    listener = _mapping([*_pairs(listen), *own], listen or own[0][0])
    return _replace(_mapping(rest, root), "listen", listener)


def _adopt_backends(root: yaml.MappingNode, adoption: Adoption) -> yaml.MappingNode:
    own, rest = _split(root, ("backends", "load_balancing"))
    if not own:
        return root
    if _find(root, "upstream") is not None:
        for key, _ in own:
            name = str(key.value)
            adoption.refuse(
                Spot("", "", 0).child(name, line_of(key)),
                f"an older form that cannot stand beside upstream; write upstream.NAME.{name}",
            )
        return _mapping(rest, root)
    where = own[0][0]
    for pair in own:
        name = _key(pair)
        adoption.basic[name] = line_of(pair[0])
    for name in ("backends", "load_balancing"):
        adoption.moved[f"upstream.{_UPSTREAM}.{name}"] = name
    route = (_scalar("route", where), _wrap("path_prefix", _scalar("/", where)))
    members = [route, *(_present_balancing(pair, adoption) for pair in own)]
    upstream = _wrap(_UPSTREAM, _mapping(members, where))
    return _mapping([*rest, (_scalar("upstream", where), upstream)], root)


def _present_balancing(pair: Pair, adoption: Adoption) -> Pair:
    """Turn `lb_type` into `type`."""
    key, value = pair
    if _key(pair) != "load_balancing" or _find(value, "lb_type") is None:
        return pair
    adoption.moved[f"upstream.{_UPSTREAM}.load_balancing.type"] = "load_balancing.lb_type"
    renamed = [
        (_scalar("type", k), v) if _key((k, v)) == "lb_type" else (k, v) for k, v in _pairs(value)
    ]
    return key, _mapping(renamed, value)


# --- health_check under a backend -------------------------------------------------------------


def _adopt_checks(root: yaml.MappingNode, adoption: Adoption) -> yaml.MappingNode:
    upstreams = _find(root, "upstream")
    if not isinstance(upstreams, yaml.MappingNode):
        return root
    top = Spot("", "", 0).child("upstream", line_of(upstreams))
    present = [
        (key, _adopt_upstream_checks(value, top.child(_key((key, value)), line_of(key)), adoption))
        for key, value in upstreams.value
    ]
    return _replace(root, "upstream", _mapping(present, upstreams))


def _adopt_upstream_checks(node: yaml.Node, spot: Spot, adoption: Adoption) -> yaml.Node:
    backends = _find(node, "backends")
    if not isinstance(node, yaml.MappingNode) or not isinstance(backends, yaml.SequenceNode):
        return node
    checks = [
        (index, pair)
        for index, backend in enumerate(backends.value)
        for pair in _split(backend, ("health_check",))[0]
    ]
    if not checks:
        return node
    there = _find(node, "health_check")
    kept = there if there is not None else checks[0][1][1]
    list_spot = spot.child("backends", spot.line)
    shown_list = adoption.moved.get(list_spot.key, list_spot.shown)
    for index, (key, value) in checks:
        here = list_spot.item(index, line_of(key)).child("health_check", line_of(key))
        if not _is_alike(value, kept, _DEEPEST):
            adoption.refuse(
                Spot(here.key, f"{shown_list}[{index}].health_check", here.line),
                "differs from the others of this upstream, which has one health_check for all "
                f"backends; write it once, as {spot.shown}.health_check",
            )
    bare = [_without_check(backend) for backend in backends.value]
    marks = (backends.start_mark, backends.end_mark)
    node = _replace(node, "backends", yaml.SequenceNode(backends.tag, bare, *marks))
    index, first = checks[0]
    name = spot.key.removeprefix("upstream.").strip('"')
    adoption.checks[name] = line_of(first[0])
    if there is not None:
        return node
    adoption.moved[f"{spot.key}.health_check"] = f"{shown_list}[{index}].health_check"
    return _mapping([*node.value, first], node)


def _without_check(backend: yaml.Node) -> yaml.Node:
    own, rest = _split(backend, ("health_check",))
    return _mapping(rest, backend) if own else backend


def _is_alike(one: yaml.Node, other: yaml.Node, depth: int) -> bool:
    """Say whether two nodes say the same, whatever the order of keys."""
    if one is other:
        return True
    if isinstance(one, yaml.ScalarNode) and isinstance(other, yaml.ScalarNode):
        return bool(one.value == other.value)
    if depth == 0 or not _pairs(one) or len(_pairs(one)) != len(_pairs(other)):
        return False
    return all(
        (found := _find(other, _key((key, value)))) is not None
        and _is_alike(value, found, depth - 1)
        for key, value in _pairs(one)
    )


# --- nodes ------------------------------------------------------------------------------------


def _pairs(node: yaml.Node | None) -> list[Pair]:
    return list(node.value) if isinstance(node, yaml.MappingNode) else []


def _key(pair: Pair) -> str:
    return str(pair[0].value) if isinstance(pair[0], yaml.ScalarNode) else ""


def _find(node: yaml.Node | None, key: str) -> yaml.Node | None:
    return next((value for k, value in _pairs(node) if _key((k, value)) == key), None)


def _split(node: yaml.Node, keys: tuple[str, ...]) -> tuple[list[Pair], list[Pair]]:
    """Tell the pairs with these keys from the others."""
    own = [pair for pair in _pairs(node) if _key(pair) in keys]
    return own, [pair for pair in _pairs(node) if _key(pair) not in keys]


def _replace(node: yaml.MappingNode, key: str, value: yaml.Node) -> yaml.MappingNode:
    """Put another value to the first of that key."""
    pairs = _pairs(node)
    index = next(i for i, pair in enumerate(pairs) if _key(pair) == key)
    pairs[index] = (pairs[index][0], value)
    return _mapping(pairs, node)


def _mapping(pairs: list[Pair], where: yaml.Node) -> yaml.MappingNode:
    return yaml.MappingNode(_MAP, pairs, where.start_mark, where.end_mark, flow_style=False)


def _scalar(text: str, where: yaml.Node) -> yaml.ScalarNode:
    return yaml.ScalarNode(_STR, text, where.start_mark, where.end_mark)


def _wrap(key: str, value: yaml.Node) -> yaml.MappingNode:
    return _mapping([(_scalar(key, value), value)], value)


def _snippet(node: yaml.Node) -> str:
    text = str(yaml.serialize(node, Dumper=yaml.SafeDumper))
    return "\n".join(f"    {line}" for line in text.rstrip().splitlines())
