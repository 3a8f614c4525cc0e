"""A browser: headless Chromium loads a page over QUIC and runs its script."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.backends import Backend, start_nghttpd
from tests.e2e.certificates import Identity
from tests.e2e.processes import wait_until
from tests.e2e.spooky_process import SpookyProcess

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ATTEMPT_S = 45.0


def _dump(port: int, path: str, spki: str, profile: Path) -> str:
    """Load a page with nothing allowed but QUIC; return the document as it stands afterwards."""
    assert CHROMIUM
    command = [
        *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--disable-dev-shm-usage", f"--user-data-dir={profile}", "--enable-quic"),
        f"--origin-to-force-quic-on=localhost:{port}",
        "--host-resolver-rules=MAP localhost 127.0.0.1",
        f"--ignore-certificate-errors-spki-list={spki}",
        *("--dump-dom", f"https://localhost:{port}{path}"),
    ]
    done = subprocess.run(command, capture_output=True, timeout=ATTEMPT_S, check=False)
    return done.stdout.decode(errors="replace")


@pytest.fixture(scope="module")
def nghttpd(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """nghttpd without trailers: Chromium waits for ever for the end of a page that has them."""
    with start_nghttpd(site, tmp_path_factory.mktemp("nghttpd")) as backend:
        yield backend


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/nghttpd/page.html", "script ran"),
        ("/caddy/page.html", "script ran"),
        ("/asgi/headers", "x-forwarded-for"),
    ],
)
def test_chromium_loads_a_page(
    front: SpookyProcess, identity: Identity, tmp_path: Path, path: str, expected: str
) -> None:
    document = _dump(front.port, path, identity.spki, tmp_path / "profile")
    assert expected in document, f"{document[:2000]}\n{front.log()[-2000:]}"
    wait_until(lambda: path in front.access_log.read_text(), 5.0, "the access line")
