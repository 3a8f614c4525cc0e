"""Fixtures of the end-to-end tests: backends once per session, Spooky per test or per module."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.backends import (
    TRAILER,
    Backend,
    make_site,
    nghttpd_command,
    start_caddy,
    start_hypercorn,
    start_nghttpd,
    start_on,
    start_scripted,
)
from tests.e2e.certificates import Identity, make_identity
from tests.e2e.failing import Failing, start_failing
from tests.e2e.spooky_process import Settings, SpookyProcess, running_spooky, upstream


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return make_identity(tmp_path_factory.mktemp("identity"), "localhost")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = make_site(tmp_path_factory.mktemp("site"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def asgi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """Hypercorn."""
    with start_hypercorn(tmp_path_factory.mktemp("asgi")) as backend:
        yield backend


@pytest.fixture(scope="session")
def nghttpd(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """nghttpd, which sends a trailer section with each response that has content."""
    with start_nghttpd(site, tmp_path_factory.mktemp("nghttpd"), *TRAILER) as backend:
        yield backend


@pytest.fixture(autouse=True)
def nghttpd_goes_on(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Start the nghttpd that tests share anew where it has ended, and say what it said."""
    if "nghttpd" not in request.fixturenames:
        return
    backend: Backend = request.getfixturevalue("nghttpd")
    if not backend.program.is_running():
        print(f"nghttpd had ended: {backend.program.log()[-2000:]}")
        command = nghttpd_command(request.getfixturevalue("site"), backend.port, *TRAILER)
        backend.program = start_on(backend.port, "nghttpd", tmp_path, command).program


@pytest.fixture(scope="session")
def caddy(site: Path, asgi: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with start_caddy(site, tmp_path_factory.mktemp("caddy"), asgi.port) as backend:
        yield backend


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """Our own server that misbehaves on demand."""
    with start_scripted(tmp_path_factory.mktemp("scripted")) as backend:
        yield backend


Spooky = Callable[[Settings], SpookyProcess]


@pytest.fixture
def spooky(identity: Identity, tmp_path: Path) -> Iterator[Spooky]:
    """Start Spooky with given settings; it is stopped and checked after the test."""
    with ExitStack() as stack:

        def start(settings: Settings) -> SpookyProcess:
            folder = tmp_path / f"spooky-{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            return stack.enter_context(running_spooky(settings, identity, folder))

        yield start


@pytest.fixture(scope="module")
def front(
    identity: Identity,
    asgi: Backend,
    nghttpd: Backend,
    caddy: Backend,
    scripted: Backend,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SpookyProcess]:
    """A Spooky with all four backends, each below a path of its name."""
    backends = (asgi, nghttpd, caddy, scripted)
    settings = {"upstream": {b.name: upstream(b.address, path=f"/{b.name}") for b in backends}}
    with running_spooky(settings, identity, tmp_path_factory.mktemp("front")) as running:
        yield running


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Failing]:
    """Backends that fail as they are told."""
    with start_failing(tmp_path_factory.mktemp("failing")) as backends:
        yield backends
