import logging
import os
import pwd
from collections.abc import Iterator

import pytest

from spooky.config.model import Config
from spooky.master.spawn import warn_about_rights


def _is_free(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return True
    return False


@pytest.fixture
def nameless() -> Iterator[int]:
    """Be, for the test, a user without an account, as in many containers."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    uid = next(uid for uid in range(54_321, 60_000) if _is_free(uid))
    os.seteuid(uid)
    yield uid
    os.seteuid(0)


def test_a_user_without_an_account_is_warned_too(
    nameless: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        warn_about_rights(Config(listen=(), upstream=(), user=str(nameless)))
        assert not caplog.records
        warn_about_rights(Config(listen=(), upstream=(), user="nobody"))
    assert "workers cannot become 'nobody'" in caplog.text
