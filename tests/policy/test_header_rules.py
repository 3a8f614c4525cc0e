import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.policy.header_rules import (
    UNTOUCHABLE,
    VARIABLES,
    Values,
    make_header_rules,
    parse_value,
    render,
)

VALUES = Values(b"192.0.2.1", b"abc", b"a.test", b"GET", b"/x", b"api")
HEADERS = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]
Pairs = list[tuple[str, str]]


@pytest.mark.parametrize(
    ("add", "replace", "remove", "expected"),
    [
        ([("A", "9")], [], [], [(b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"a", b"9")]),
        ([], [("a", "9")], [], [(b"b", b"2"), (b"a", b"9")]),
        ([], [], ["A", "c"], [(b"b", b"2")]),
        ([("a", "8")], [("b", "9")], [], [(b"a", b"1"), (b"a", b"3"), (b"b", b"9"), (b"a", b"8")]),
        # Removed first, added then.
        ([("a", "8")], [], ["a"], [(b"b", b"2"), (b"a", b"8")]),
        ([("b", "8")], [("b", "9")], [], [(b"a", b"1"), (b"a", b"3"), (b"b", b"9"), (b"b", b"8")]),
        ([("c", "")], [], [], [*HEADERS, (b"c", b"")]),
    ],
)
def test_rules(add: Pairs, replace: Pairs, remove: list[str], expected: object) -> None:
    rules = make_header_rules(add, replace, remove)
    assert rules is not None
    before = list(HEADERS)
    assert rules.apply(before, VALUES) == expected
    assert before == HEADERS


def test_no_rules_are_none() -> None:
    assert make_header_rules() is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", b"plain"),
        ("${client_ip}", b"192.0.2.1"),
        ("<${host}${path}> by ${method}", b"<a.test/x> by GET"),
        ("${request_id}/${upstream}", b"abc/api"),
        ("$ {x} $x $", b"$ {x} $x $"),
        ("$${host}", b"${host}"),
        ("$${${host}", b"${a.test"),
        ("", b""),
    ],
)
def test_variables(value: str, expected: bytes) -> None:
    assert render(parse_value(value), VALUES) == expected


def test_an_empty_variable_leaves_no_whitespace_around() -> None:
    empty = Values(b"", b"", b"", b"", b"", b"")
    assert render(parse_value("${upstream} ${host}"), empty) == b""


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("${cookie}", r"no variable \$\{cookie\}"),
        ("${}", "no variable"),
        ("${host", "not closed"),
        ("a\r\nset-cookie: x", "no field value"),
        ("a\nb", "no field value"),
        (" a", "no field value"),
        ("a\t", "no field value"),
        ("ä", "no field value"),
        ("a\x00", "no field value"),
    ],
)
def test_values_that_are_refused(value: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_value(value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (":path", "pseudo"),
        (":Authority", "pseudo"),
        *((name, "not for header rules") for name in sorted(UNTOUCHABLE)),
        ("Content-Length", "not for header rules"),
        ("a b", "no field name"),
        ("", "no field name"),
        ("ä", "no field name"),
        ("a\n", "no field name"),
        # Lower-cased, this is a k.
        ("\u212aeep", "no field name"),
    ],
)
def test_names_that_are_refused(name: str, message: str) -> None:
    for kind in ({"add": [(name, "1")]}, {"replace": [(name, "1")]}, {"remove": [name]}):
        with pytest.raises(ValueError, match=message):
            make_header_rules(**kind)


def test_rules_that_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="set twice"):
        make_header_rules(replace=[("a", "1"), ("A", "2")])
    with pytest.raises(ValueError, match="both set and removed"):
        make_header_rules(replace=[("a", "1")], remove=["A"])


OCTETS = st.binary(max_size=8).map(
    lambda octets: bytes(octet for octet in octets if 0x21 <= octet <= 0x7E)
)
VALUE_PARTS = st.sampled_from(
    ["a", " ", "$", "${", "}", "$${", *(f"${{{name}}}" for name in VARIABLES)]
)


@given(st.lists(VALUE_PARTS, max_size=6).map("".join), st.tuples(*[OCTETS] * 6))
def test_whatever_is_taken_gives_a_field_value(value: str, parts: tuple[bytes, ...]) -> None:
    try:
        template = parse_value(value)
    except ValueError:
        return
    rendered = render(template, Values(*parts))
    assert rendered == rendered.strip()
    assert all(0x20 <= octet <= 0x7E for octet in rendered)
