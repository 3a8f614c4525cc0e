import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.policy.cookies import MOST_COOKIES, cookies_named, without_cookie


@pytest.mark.parametrize(
    ("fields", "values"),
    [
        ([], []),
        ([b"s=1"], [b"1"]),
        ([b"a=0; s=1; b=2"], [b"1"]),
        ([b"a=0", b"s=1"], [b"1"]),
        ([b"s=1; s=2", b"s=3"], [b"1", b"2", b"3"]),
        ([b"a=0;s=1;b=2"], [b"1"]),
        ([b" s\t=  1 "], [b"1"]),
        ([b"s=a=b=="], [b"a=b=="]),
        ([b"s="], [b""]),
        ([b"s"], []),
        ([b"S=1; xs=2; sx=3; s s=4"], []),
        ([b";;=;s=1;="], [b"1"]),
        ([b"\xff\x00; s=\xfe"], [b"\xfe"]),
        ([b"s=1;" * 100], [b"1"] * MOST_COOKIES),
    ],
)
def test_cookies_named(fields: list[bytes], values: list[bytes]) -> None:
    assert cookies_named(b"s", fields) == values


@pytest.mark.parametrize(
    ("field", "left"),
    [
        (b"s=1", b""),
        (b"a=0; s=1; b=2", b"a=0; b=2"),
        (b"s=1; a=0", b"a=0"),
        (b"a=0; s=1", b"a=0"),
        (b"s=1; s=2", b""),
        (b"a=0;s=1;b=2", b"a=0;b=2"),
        (b"s", b"s"),
        (b"xs=1 ; a", b"xs=1 ; a"),
        (b" a=s ;", b" a=s ;"),
    ],
)
def test_without_cookie(field: bytes, left: bytes) -> None:
    assert without_cookie(b"s", field) == left


@given(st.lists(st.sampled_from([b"s", b"=", b";", b" ", b"x", b"s=1", b"; ", b"\xff"])))
def test_what_was_taken_out_is_not_found_any_more(parts: list[bytes]) -> None:
    field = b"".join(parts)
    assert cookies_named(b"s", [without_cookie(b"s", field)]) == []
    assert cookies_named(b"x", [without_cookie(b"s", field)]) == cookies_named(b"x", [field])
