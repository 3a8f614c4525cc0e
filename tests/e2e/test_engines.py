"""Each engine towards backends, in the real program, before servers of other people."""

from collections.abc import Iterator

import pytest

from tests.e2e.backends import SIZES, Backend
from tests.e2e.certificates import Identity
from tests.e2e.clients import CLIENTS
from tests.e2e.content import content, digest
from tests.e2e.spooky_process import SpookyProcess, running_spooky, upstream
from tests.e2e.test_methods import DOWNLOADS, UPLOADS

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module", params=["lean", "h2"])
def engine_front(
    request: pytest.FixtureRequest,
    identity: Identity,
    asgi: Backend,
    nghttpd: Backend,
    caddy: Backend,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SpookyProcess]:
    backends = (asgi, nghttpd, caddy)
    settings = {
        "engine": {"upstream": request.param},
        "upstream": {
            b.name: upstream(
                b.address,
                path=f"/{b.name}",
                health_check={"path": "/", "status": "200-299,404"},
            )
            for b in backends
        },
    }
    folder = tmp_path_factory.mktemp(f"engine-{request.param}")
    with running_spooky(settings, identity, folder) as running:
        yield running


@pytest.mark.parametrize(
    ("backend", "size"), [(name, "64k") for name in DOWNLOADS] + [("nghttpd", "16m")]
)
def test_down(engine_front: SpookyProcess, backend: str, size: str) -> None:
    path = DOWNLOADS[backend].format(file=size, n=SIZES[size])
    answer = CLIENTS["curl"](engine_front.target, "GET", path, b"")
    assert (answer.status, answer.sha256) == (200, digest(SIZES[size]))


@pytest.mark.parametrize(
    ("backend", "size"), [(name, "64k") for name in UPLOADS] + [("asgi", "16m")]
)
def test_up_and_back(engine_front: SpookyProcess, backend: str, size: str) -> None:
    body = content(SIZES[size])
    answer = CLIENTS["curl"](engine_front.target, "POST", UPLOADS[backend], body)
    assert (answer.status, answer.sha256) == (200, digest(SIZES[size]))


def test_trailers(engine_front: SpookyProcess) -> None:
    answer = CLIENTS["aioquic"](engine_front.target, "GET", "/nghttpd/64k", b"")
    assert answer.trailers == {"x-checked": "nghttpd"}
