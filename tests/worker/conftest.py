"""Backends of other people for the pools, once per module that asks for them."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.backends import Backend, start_backend, start_nghttpd
from tests.e2e.certificates import Identity, make_identity
from tests.e2e.content import chunks

FILE_SIZES = {"1k": 1024, "1m": 1 << 20}
HUGE = 64 << 20


@pytest.fixture(scope="session")
def backend_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backend-site")
    for name, size in FILE_SIZES.items():
        (folder / name).write_bytes(b"".join(chunks(size)))
    with (folder / "huge").open("wb") as file:
        file.truncate(HUGE)
    return folder


@pytest.fixture(scope="session")
def backend_identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return make_identity(tmp_path_factory.mktemp("backend-identity"), "backend.test")


@pytest.fixture(scope="module")
def nghttpd(backend_site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    backend = start_nghttpd(backend_site, tmp_path_factory.mktemp("nghttpd"))
    yield backend
    backend.program.kill()


@pytest.fixture(scope="module")
def hypercorn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """Hypercorn as it comes: from the 1,001st request of a connection on it drops requests."""

    def command(port: int) -> list[str]:
        application = "tests.e2e.asgi_app:application"
        return [sys.executable, "-m", "hypercorn", "-b", f"127.0.0.1:{port}", application]

    backend = start_backend("hypercorn", tmp_path_factory.mktemp("hypercorn"), command)
    yield backend
    backend.program.kill()


@pytest.fixture(scope="module")
def nghttpd_mtls(
    backend_site: Path, backend_identity: Identity, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backend]:
    """nghttpd with TLS that asks for a client certificate."""

    def command(port: int) -> list[str]:
        files = [str(port), str(backend_identity.key), str(backend_identity.cert)]
        options = ["--verify-client", "-a", "127.0.0.1", "-d", str(backend_site)]
        return ["nghttpd", "-v", *options, *files]

    backend = start_backend("nghttpd-mtls", tmp_path_factory.mktemp("mtls"), command)
    yield backend
    backend.program.kill()
