"""Whatever the file is, loading it gives a Config or a ConfigError, and nothing else."""

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky.config.dump import dump
from spooky.config.load import load_text
from spooky.config.schema import schema
from spooky.errors import ConfigError
from tests.config import broken_files, broken_oddities, broken_routes, broken_upstreams
from tests.config.broken import LISTEN, UPSTREAM
from tests.config.test_dump import RICH
from tests.config.test_legacy import BASIC
from tests.config.test_schema import keys

KEYS = sorted({key for key, _ in keys(schema())} | {"lb_type", "<<", "site"})
WORDS = ["off", "1", "0", "-1", "5s", "64KiB", "auto", "*.a", "::1", "h:1", "https://h", "/a", "~"]
SEEDS = [LISTEN + UPSTREAM, RICH, BASIC]
BROKEN = (
    *broken_files.TABLE,
    *broken_upstreams.TABLE,
    *broken_oddities.TABLE,
    *broken_routes.TABLE,
)
SEEDS += [broken.text for broken in BROKEN]
SEEDS = [text for text in SEEDS if len(text) < 900]
PIECES = ["", "\n", ": ", "- ", "*x", "&x ", "!!int ", "{", "]", "\0"]

scalars = st.one_of(
    st.sampled_from(WORDS), st.none(), st.booleans(), st.integers(), st.floats(), st.text()
)
structures = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=30,
)


def survives(text: str) -> None:
    problems, config = [], None
    try:
        config = load_text(text).config
    except ConfigError as error:
        problems = error.problems
    assert bool(problems) != bool(config)
    assert all(str(problem).isprintable() for problem in problems)
    if config:
        assert load_text(dump(config)).config == config


@settings(deadline=None)
@given(st.text())
def test_any_text(text: str) -> None:
    survives(text)


@settings(deadline=None)
@given(st.text(alphabet=":-[]{}&*!|>'\"%@`#?,\n \tab01.<~\\xU"))
def test_text_of_the_characters_that_mean_something(text: str) -> None:
    survives(text)


@settings(deadline=None)
@given(structures)
def test_any_structure(structure: object) -> None:
    survives(yaml.safe_dump(structure))


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), structures, max_size=5))
def test_any_structure_under_known_keys(structure: dict[str, object]) -> None:
    present = {"listen": {"tls": {"cert": "a"}}, "upstream": {"a": structure}, **structure}
    survives(yaml.safe_dump(present))


@settings(deadline=None)
@given(st.sampled_from(SEEDS), st.floats(0, 1), st.integers(0, 20), st.sampled_from(PIECES))
def test_files_with_a_piece_cut_out_or_put_in(
    text: str, where: float, length: int, piece: str
) -> None:
    start = int(len(text) * where)
    survives(text[:start] + piece + text[start + length :])


def test_aliases_that_go_round_in_a_circle() -> None:
    for text in (
        "&a [*a]",
        "&a {listen: *a, upstream: *a, tls: *a, limits: *a}",
        "listen: &l [*l]\nupstream: &u {a: {backends: &b [{health_check: *u}, *b], route: *u}}",
        "tls: &t {certificates: [*t]}\nbackends: &b [{health_check: &h {path: *h}}, *b]",
        "upstream: {a: {backends: [{health_check: &h {x: *h}}, {health_check: &g {x: *g}}]}}",
    ):
        survives(text)
