"""What is taken for a secret, and that no way of showing a configuration shows one."""

import pytest
import yaml

from spooky.config.dump import dump
from spooky.config.load import load_text
from spooky.config.redaction import hide, hide_in_arguments, hide_in_query, is_secret_name
from spooky.errors import ConfigError
from tests.config.broken import with_backend, with_upstream

SECRET = "hunter-2"


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "proxy-authorization",
        "cookie",
        "Set-Cookie",
        "x-api-key",
        "X-Auth-Token",
        "apikey",
        "access_token",
        "client_secret",
        "sessionid",
        "sid",
        "password",
        "db.passwd",
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "accept",
        "x-request-id",
        "monkey",
        "author",
        "x-forwarded-for",
        "beta",
        "content-type",
        "passthrough",
        "keyboard",
        "tokenizer",
        "user-agent",
        "side",
        "x-inside",
    ],
)
def test_names_of_other_things(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:hunter-2@a.example:443", "https://***@a.example:443"),
        ("/health?token=hunter-2&full=1", "/health?token=***&full=1"),
        ("--password=hunter-2", "--password=***"),
        ("Authorization: Bearer hunter-2", "Authorization: ***"),
        ("X-Api-Key: hunter-2", "X-Api-Key: ***"),
        ("header:authorization", "header:authorization"),
        ("/etc/spooky/key.pem", "/etc/spooky/key.pem"),
        ("monkey=1", "monkey=1"),
    ],
)
def test_secrets_in_a_value_are_hidden(text: str, shown: str) -> None:
    assert hide(text) == shown


def test_secrets_that_follow_their_flag_are_hidden() -> None:
    given = ["check", "--password", SECRET, "-u", f"me:{SECRET}", "-H", f"X-Token: {SECRET}", "-v"]
    shown = ["check", "--password", "***", "-u", "***", "-H", "X-Token: ***", "-v"]
    assert hide_in_arguments(given) == shown


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b"/a?access_token=x.y&b=1", b"/a?access_token=***&b=1"),
        (b"/a?b=1;sid=3#f", b"/a?b=1;sid=***#f"),
        (b"/token=1?q=key", b"/token=1?q=key"),
        (b"/a?token", b"/a?token"),
    ],
)
def test_secrets_in_a_query_are_hidden(path: bytes, shown: bytes) -> None:
    assert hide_in_query(path) == shown


PLACES = [
    pytest.param(f"request_headers: {{set: {{Authorization: 'Bearer {SECRET}'}}}}", id="set"),
    pytest.param(f"response_headers: {{add: {{Set-Cookie: 'a={SECRET}'}}}}", id="add"),
    pytest.param(f"headers: {{x-api-key: {SECRET}}}", id="header"),
    pytest.param(f"headers: {{x-api-key: {{prefix: {SECRET}, invert: true}}}}", id="prefix"),
    pytest.param(f"cookies: {{session: {{regex: '{SECRET}.*'}}}}", id="cookie"),
    pytest.param(f"query: {{token: {SECRET}}}", id="query"),
]


def _with_route(text: str) -> str:
    whole = with_upstream("")
    assert whole.count("route: {") == 1
    return whole.replace("route: {", f"route: {{{text}, ")


CHECKS = [
    pytest.param(f"health_check: {{path: '/h?api_key={SECRET}'}}", id="path"),
    pytest.param(
        f"health_check: {{type: command, command: [/bin/true, --token, {SECRET}]}}", id="argument"
    ),
]


@pytest.mark.parametrize(
    "text",
    [pytest.param(_with_route(str(one.values[0])), id=one.id) for one in PLACES]
    + [pytest.param(with_upstream(f"{one.values[0]}\n"), id=one.id) for one in CHECKS],
)
def test_a_dump_has_no_secrets_and_is_refused_without_them(text: str) -> None:
    dumped = dump(load_text(text).config)
    assert SECRET not in dumped
    assert "***" in dumped
    with pytest.raises(ConfigError, match="write the secret itself"):
        load_text(dumped)


def test_what_says_nothing_of_a_secret_is_dumped() -> None:
    text = _with_route("headers: {authorization: {present: true}}, cookies: {beta: '1'}")
    config = load_text(text).config
    assert load_text(dump(config)).config == config
    [upstream] = yaml.safe_load(dump(config))["upstream"].values()
    assert upstream["route"]["cookies"] == {"beta": "1"}


@pytest.mark.parametrize(
    "text",
    [
        with_backend(f"{{address: 'https://me:{SECRET}@a.example'}}"),
        with_backend(f"'https://me:{SECRET}@a.example'"),
        with_backend(f"{{address: 'https://{'me' * 40}:{SECRET}@a.example'}}"),
        _with_route(f"host: 'https://me:{SECRET}@a.example'"),
        _with_route(f'request_headers: {{set: {{Authorization: "{SECRET}\\x01"}}}}'),
        _with_route(f"request_headers: {{set: {{Authorization: '${{{SECRET}}}'}}}}"),
        _with_route(f"request_headers: 'Authorization: {SECRET}'"),
        _with_route(f"headers: {{x-token: {{regex: '({SECRET}'}}}}"),
        _with_route(f"headers: {{x-token: {{exact: {SECRET}, prefix: {SECRET}}}}}"),
        with_upstream(f"health_check: {{path: 'h?token={SECRET}'}}\n"),
        with_upstream(f"health_check: 'https://me:{SECRET}@a.example'\n"),
    ],
)
def test_no_message_has_a_secret(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(text)
    assert SECRET not in str(caught.value)
    assert len(caught.value.problems) >= 1
