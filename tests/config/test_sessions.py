"""The secret of session cookies, as it is read from a file."""

from pathlib import Path

import pytest

from spooky.config.document import Places
from spooky.config.load import load_and_inspect, load_text
from spooky.config.sessions import load_session_keys
from spooky.errors import ConfigError
from tests.config.broken import LISTEN, UPSTREAM
from tests.config.identities import NOW

SECRET = "0123456789abcdef" * 4


def upstreams_with(file: Path | None) -> str:
    named = f"{{secret_file: {file}}}" if file else "{}"
    return f"{UPSTREAM}    session_persistence: {named}\n"


def keys_of(file: Path | None) -> dict[str, bytes]:
    config = load_text(LISTEN + upstreams_with(file)).config
    return dict(load_session_keys(config.upstream, Places()))


def test_the_key_depends_on_the_secret_alone(tmp_path: Path) -> None:
    one, same, other = (tmp_path / name for name in ("one", "same", "other"))
    one.write_text(SECRET)
    same.write_text(f"{SECRET}\n")
    other.write_text(f"{SECRET}0")
    assert set(keys_of(one)) == {"api"}
    assert keys_of(one) == keys_of(same) != keys_of(other)
    assert keys_of(None) == {}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "cannot be read: no such file or directory"),
        ("", "is empty"),
        (
            "too short\n",
            "has 9 octets, a secret needs at least 32: make one by openssl rand -hex 32",
        ),
    ],
)
def test_a_secret_that_is_none(tmp_path: Path, content: str | None, text: str) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_text(content)
    wanted = f"upstream.api.session_persistence.secret_file: {file} {text} (line 7)"
    with pytest.raises(ConfigError) as caught:
        keys_of(file)
    assert str(caught.value) in wanted
    whole = tmp_path / "spooky.yaml"
    whole.write_text(LISTEN + upstreams_with(file))
    with pytest.raises(ConfigError) as caught:
        load_and_inspect(whole, NOW)
    assert wanted in str(caught.value)
