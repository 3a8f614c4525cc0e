import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.policy import persistence
from spooky.policy.persistence import VALUE_LENGTH, CookieRules, CookieSessions, Session

KEY = bytes(range(32))
NOW = 1_800_000_000.5
BACKENDS = ["http://10.0.0.1:80", "https://10.0.0.2:443", "http://10.0.0.3:80"]
RULES = CookieRules("sid")


def sessions(
    key: bytes = KEY,
    upstream: str = "shop",
    backends: list[str] = BACKENDS,
    rules: CookieRules = RULES,
) -> CookieSessions:
    return CookieSessions(key, upstream, backends, rules)


def cookie(place: int = 1, now: float = NOW, rules: CookieRules = RULES) -> bytes:
    return issued(sessions(rules=rules), BACKENDS[place], now).partition(b";")[0]


def issued(cookies: CookieSessions, backend: str, now: float = NOW) -> bytes:
    found = cookies.issue(backend, now)
    assert found is not None
    return found


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_cookie_leads_back(place: int) -> None:
    assert sessions().find([b"a=b; " + cookie(place) + b"; c=d"], NOW) == Session(BACKENDS[place])


def test_it_leads_back_to_the_backend_not_to_the_place() -> None:
    moved = sessions(backends=["http://10.0.0.9:80", BACKENDS[2], BACKENDS[1]])
    assert moved.find([cookie(1)], NOW) == Session(BACKENDS[1])


def test_a_backend_that_is_gone_is_told_from_no_session() -> None:
    assert sessions(backends=BACKENDS[:1]).find([cookie(1)], NOW) == Session(None)
    assert sessions().find([], NOW) is None


def test_backends_come_and_go() -> None:
    cookies = sessions()
    cookies.lay_out(BACKENDS[:1])
    assert cookies.find([cookie(1)], NOW) == Session(None)
    assert cookies.issue(BACKENDS[1], NOW) is None, "it answers late, and is gone"
    cookies.lay_out(BACKENDS)
    assert cookies.find([cookie(1)], NOW) == Session(BACKENDS[1])


def test_of_several_the_first_whose_backend_is_there_counts() -> None:
    field = b"; ".join([b"sid=junk", cookie(1), cookie(0), cookie(2)])
    assert sessions(backends=[BACKENDS[0], BACKENDS[2]]).find([field], NOW) == Session(BACKENDS[0])


@pytest.mark.parametrize(
    ("after", "found"),
    [
        (0, Session(BACKENDS[1])),
        (1799, Session(BACKENDS[1])),
        (1802, Session(BACKENDS[1], is_stale=True)),
        (3599, Session(BACKENDS[1], is_stale=True)),
        (3600.4, Session(BACKENDS[1], is_stale=True)),
        (3600.5, None),
        # The clock was set back since.
        (-10, Session(BACKENDS[1], is_stale=True)),
    ],
)
def test_time(after: float, found: Session | None) -> None:
    assert sessions().find([cookie()], NOW + after) == found


def test_a_cookie_of_another_version_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as changed:
        changed.setattr(persistence, "VERSION", b"\x02")
        other = cookie()
    assert sessions().find([other], NOW) is None


def test_without_a_timeout_it_holds_for_ever() -> None:
    rules = CookieRules("sid", timeout=0)
    endless = sessions(rules=rules)
    assert endless.find([cookie(rules=rules)], NOW + 1e9) == Session(BACKENDS[1])
    # Made before the timeout was taken away: it is replaced by one without.
    assert endless.find([cookie()], NOW) == Session(BACKENDS[1], is_stale=True)
    # And the other way round.
    assert sessions().find([cookie(rules=rules)], NOW) == Session(BACKENDS[1], is_stale=True)


@pytest.mark.parametrize(
    "other", [sessions(key=bytes(32)), sessions(upstream="shop2"), sessions(upstream="")]
)
def test_nobody_elses_cookie_counts(other: CookieSessions) -> None:
    assert other.find([cookie()], NOW) is None


@given(st.integers(4, 4 + VALUE_LENGTH - 1), st.integers(0, 255))
def test_a_changed_octet_spoils_it(where: int, octet: int) -> None:
    good = cookie()
    bad = good[:where] + bytes((octet,)) + good[where + 1 :]
    found = sessions().find([bad], NOW)
    assert (found == Session(BACKENDS[1])) if bad == good else found is None


@given(st.lists(st.binary(max_size=60).map(lambda octets: b"sid=" + octets) | st.binary()))
def test_hostile_cookies_are_no_session(fields: list[bytes]) -> None:
    assert sessions().find(fields, NOW) is None


@given(st.binary(min_size=VALUE_LENGTH, max_size=VALUE_LENGTH))
def test_hostile_values_of_the_right_length_are_no_session(value: bytes) -> None:
    assert sessions().find([b"sid=" + value], NOW) is None


def test_it_tells_nothing_of_the_backend() -> None:
    ours, theirs = cookie(), issued(sessions(key=bytes(32)), BACKENDS[1]).partition(b";")[0]
    assert len(ours) == len(b"sid=") + VALUE_LENGTH
    # The part that names the backend depends on the key: nobody finds out by trying addresses.
    assert ours[12:20] != theirs[12:20]


@pytest.mark.parametrize(
    ("rules", "attributes"),
    [
        (RULES, b"; Path=/; Max-Age=3600; HttpOnly; Secure; SameSite=Lax"),
        (
            CookieRules("sid", 0, "/shop", "strict"),
            b"; Path=/shop; HttpOnly; Secure; SameSite=Strict",
        ),
        (
            CookieRules("sid", 0.25, "/", "none"),
            b"; Path=/; Max-Age=1; HttpOnly; Secure; SameSite=None",
        ),
    ],
)
def test_attributes(rules: CookieRules, attributes: bytes) -> None:
    field = issued(sessions(rules=rules), BACKENDS[0])
    assert field[len(b"sid=") + VALUE_LENGTH :] == attributes
