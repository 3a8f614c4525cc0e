"""Clients that come back with the session cookie, whatever became of their backend.

Two backends that answer the same request with another status tell who was asked.
"""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.backends import Backend, start_hypercorn
from tests.e2e.conftest import Spooky
from tests.e2e.h3_client import Exchange, connect
from tests.e2e.operator import command, reload, rewrite
from tests.e2e.processes import free_port, wait_until
from tests.e2e.spooky_process import SpookyProcess, upstream

pytestmark = pytest.mark.e2e

PATH = "/asgi/status?code=204"
ASGI, NGHTTPD = 204, 404
SOON_S = 2.0


def get(running: SpookyProcess, cookie: str = "", path: str = PATH) -> Exchange:
    """Ask on a connection of its own."""

    async def ask() -> Exchange:
        fields = [(b"cookie", cookie.encode())] if cookie else []
        async with connect(running.port) as client:
            return await client.get(path, fields)

    return asyncio.run(ask())


def set_cookie(answer: Exchange) -> str:
    return (answer.header(b"set-cookie") or b"").decode()


def session_at(running: SpookyProcess, status: int) -> str:
    """Ask without a cookie until a backend answers; return the cookie that came with it."""
    for _ in range(20):
        answer = get(running)
        if answer.status == status:
            return set_cookie(answer).partition(";")[0]
    raise AssertionError(f"nobody answered {status}")


def one_of(asgi: str, nghttpd: Backend, rules: Mapping[str, Any]) -> dict[str, Any]:
    backends = [{"id": "asgi", "address": asgi}, {"id": "nghttpd", "address": nghttpd.address}]
    return {"one": {**upstream(asgi), "backends": backends, "session_persistence": dict(rules)}}


def ctl(running: SpookyProcess, *arguments: str) -> None:
    said = command("ctl", "-c", str(running.file), *arguments)
    assert said.status == 0, said


def until_answered(running: SpookyProcess, cookie: str, status: int) -> Exchange:
    found: list[Exchange] = []

    def is_answered() -> bool:
        found.append(get(running, cookie))
        return found[-1].status == status

    wait_until(is_answered, SOON_S, f"{status}")
    return found[-1]


def test_a_session_stays_over_workers_reloads_and_upgrades(
    spooky: Spooky, asgi: Backend, nghttpd: Backend
) -> None:
    ours = one_of(asgi.address, nghttpd, {"name": "sid"})
    running = spooky({"worker_processes": 2, "upstream": ours})
    first = get(running)
    assert set_cookie(first).startswith("sid=")
    assert set_cookie(first).endswith("; Path=/; Max-Age=3600; HttpOnly; Secure; SameSite=Lax")
    for status in (ASGI, NGHTTPD):
        cookie = f"a=1; {session_at(running, status)}; b=2"
        for change in (None, "reload", "upgrade"):
            if change is not None and status == ASGI:
                said = command("-s", change, "-p", str(running.settings["pid"]))
                assert said.status == 0, said
            answers = [get(running, cookie) for _ in range(6)]
            assert {answer.status for answer in answers} == {status}
            assert {set_cookie(answer) for answer in answers} == {""}


def test_the_backend_sees_all_cookies_but_ours_and_a_forged_one_is_none(
    spooky: Spooky, asgi: Backend, nghttpd: Backend
) -> None:
    running = spooky({"upstream": one_of(asgi.address, nghttpd, {})})
    session = session_at(running, ASGI)
    assert session.startswith("spooky-")
    seen = json.loads(get(running, f"a=1; {session}; b=2", "/asgi/headers").kept)["headers"]
    assert [value for name, value in seen if name == "cookie"] == ["a=1; b=2"]
    seen = json.loads(get(running, session, "/asgi/headers").kept)["headers"]
    assert [value for name, value in seen if name == "cookie"] == []
    forged = session[:-1] + "~"
    answers = [get(running, forged) for _ in range(4)]
    assert {answer.status for answer in answers} == {ASGI, NGHTTPD}
    assert all(set_cookie(answer) for answer in answers)


def test_a_backend_that_drains_or_has_no_weight_keeps_its_sessions(
    spooky: Spooky, asgi: Backend, nghttpd: Backend
) -> None:
    ours = one_of(asgi.address, nghttpd, {"when_gone": "fail"})
    running = spooky({"upstream": ours})
    cookie = session_at(running, ASGI)
    for action in (("drain", "one/asgi"), ("weight", "one/asgi", "0")):
        ctl(running, *action)
        wait_until(lambda: {get(running).status for _ in range(3)} == {NGHTTPD}, SOON_S, "drained")
        assert [get(running, cookie).status for _ in range(3)] == [ASGI] * 3
        ctl(running, "enable", "one/asgi")


CHANGES = ("disable", "unhealthy", "removed")


def test_another_backend_takes_over(spooky: Spooky, asgi: Backend, nghttpd: Backend) -> None:
    ours = one_of(asgi.address, nghttpd, {})
    running = spooky({"upstream": ours})
    for change in CHANGES:
        cookie = session_at(running, ASGI)
        take_away(running, change, nghttpd, {})
        answer = until_answered(running, cookie, NGHTTPD)
        moved = set_cookie(answer).partition(";")[0]
        assert moved not in {"", cookie}
        assert set_cookie(get(running, moved)) == ""
        bring_back(running, ours)


def test_or_the_session_fails_until_its_backend_is_back(
    spooky: Spooky, asgi: Backend, nghttpd: Backend
) -> None:
    rules = {"when_gone": "fail"}
    ours = one_of(asgi.address, nghttpd, rules)
    running = spooky({"upstream": ours})
    cookie = session_at(running, ASGI)
    for change in CHANGES:
        take_away(running, change, nghttpd, rules)
        assert set_cookie(until_answered(running, cookie, 503)) == ""
        assert get(running).status == NGHTTPD
        bring_back(running, ours)
        assert set_cookie(until_answered(running, cookie, ASGI)) == ""


def bring_back(running: SpookyProcess, ours: Mapping[str, Any]) -> None:
    rewrite(running, upstream=ours)
    assert reload(running).status == 0
    ctl(running, "enable", "one/asgi")
    ctl(running, "health", "one/asgi", "auto")


def take_away(
    running: SpookyProcess, change: str, nghttpd: Backend, rules: Mapping[str, Any]
) -> None:
    match change:
        case "disable":
            ctl(running, "disable", "one/asgi")
        case "unhealthy":
            ctl(running, "health", "one/asgi", "down")
        case _:
            nobody = f"127.0.0.1:{free_port()}"
            left = one_of(nobody, nghttpd, rules)
            left["one"]["backends"].pop(0)
            rewrite(running, upstream=left)
            assert reload(running).status == 0


@pytest.mark.parametrize(("when_gone", "status"), [("pick-another", NGHTTPD), ("fail", 502)])
def test_a_backend_that_died_a_moment_ago(
    spooky: Spooky, nghttpd: Backend, tmp_path: Path, when_gone: str, status: int
) -> None:
    with start_hypercorn(tmp_path) as doomed:
        ours = one_of(doomed.address, nghttpd, {"when_gone": when_gone})
        running = spooky({"upstream": ours})
        cookie = session_at(running, ASGI)
    answer = get(running, cookie)
    assert answer.status == status
    assert bool(set_cookie(answer)) == (when_gone == "pick-another")


def test_a_session_is_not_hedged(spooky: Spooky, asgi: Backend, nghttpd: Backend) -> None:
    """Another backend would be faster, but knows nothing of the session."""
    ours = one_of(asgi.address, nghttpd, {})
    ours["one"] |= {"hedging": {"delay": "50ms"}, "timeouts": {"response_header": "1s"}}
    running = spooky({"upstream": ours})
    cookie = session_at(running, ASGI)
    assert get(running, cookie, "/asgi/hang").status == 504
    assert get(running, "", "/asgi/hang").status == NGHTTPD


def test_instances_with_the_same_secret_share_sessions(
    spooky: Spooky, asgi: Backend, nghttpd: Backend, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef" * 4)
    shared = one_of(asgi.address, nghttpd, {"secret_file": str(secret)})
    first, second = spooky({"upstream": shared}), spooky({"upstream": shared})
    stranger = spooky({"upstream": one_of(asgi.address, nghttpd, {})})
    cookie = session_at(first, NGHTTPD)
    assert {get(second, cookie).status for _ in range(4)} == {NGHTTPD}
    assert {get(stranger, cookie).status for _ in range(4)} == {ASGI, NGHTTPD}
