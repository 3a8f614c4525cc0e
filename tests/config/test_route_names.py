import pytest

from spooky.config import route_names
from spooky.config.names import UnfitError
from spooky.policy import header_rules
from spooky.policy.rewrite import is_path


def test_the_configuration_and_the_policy_know_the_same_names() -> None:
    assert route_names.UNTOUCHABLE == header_rules.UNTOUCHABLE
    assert set(route_names.VARIABLES) == set(header_rules.VARIABLES)


@pytest.mark.parametrize("octet", range(256))
def test_both_take_the_same_paths(octet: int) -> None:
    text = f"/{chr(octet)}x"
    try:
        accepted = bool(route_names.parse_new_path(text))
    except UnfitError:
        accepted = False
    assert accepted == is_path(text.encode())


@pytest.mark.parametrize("value", ["a", "${host} x", "$${x", "${nope}", "${host", " a", "ä", "a\n"])
def test_both_take_the_same_values(value: str) -> None:
    try:
        route_names.parse_ruled_value(value)
    except UnfitError:
        with pytest.raises(ValueError, match=r"value|variable|closed"):
            header_rules.parse_value(value)
    else:
        header_rules.parse_value(value)


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        ("A.Example", "a.example"),
        ("a.example:8443", "a.example:8443"),
        ("10.0.0.1:80", "10.0.0.1:80"),
        ("[2001:DB8::1]", "[2001:db8::1]"),
        ("[2001:db8::1]:8443", "[2001:db8::1]:8443"),
    ],
)
def test_authorities(text: str, authority: str) -> None:
    assert route_names.parse_authority(text) == authority


@pytest.mark.parametrize("text", ["a:0", "a:65536", "a:", "*.a", "a/b", "u@a", "::1", "", "a b"])
def test_no_authorities(text: str) -> None:
    with pytest.raises(UnfitError):
        route_names.parse_authority(text)
