"""The demo: makes a certificate and a configuration, starts Spooky on them, sends requests.

Everything but the certificate is the real thing: `spooky -c FILE` as its own processes, QUIC on
a UDP port of the loopback, HTTP/2 to two backends. It keeps serving until Ctrl-C; with `--once`,
or `DEMO_ONCE=1` in the environment, it stops after the requests, with status 0 only if all of them
were answered.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

import yaml

from spooky.demo.backend import start_backend
from spooky.demo.certificate import make_certificate
from spooky.demo.requests import send_requests

PREFERRED_PORT = 4433
START_DEADLINE_S = 15.0
STOP_DEADLINE_S = 5.0
ONCE = "DEMO_ONCE"
_ANSWERS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("", "0", "false", "no", "off"), False),
}


def main(argv: list[str] | None = None) -> int:
    """Run the demo; return the exit status."""
    parser = argparse.ArgumentParser(prog="spooky demo", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--once", action="store_true", help=f"exit after the requests, as {ONCE}=1 does"
    )
    options = parser.parse_args(argv)
    asked = os.environ.get(ONCE, "")
    if asked.lower() not in _ANSWERS:
        parser.error(f"{ONCE} is {asked} in the environment: set it to 1 or 0")
    once = options.once or _ANSWERS[asked.lower()]
    with tempfile.TemporaryDirectory(prefix="spooky-demo-") as folder:
        try:
            return asyncio.run(_demo(Path(folder), once=once))
        except KeyboardInterrupt:
            return 0


async def _demo(folder: Path, *, once: bool) -> int:
    backends = {name: await start_backend(name) for name in ("red", "blue")}
    port = _free_port()
    make_certificate(folder)
    config = folder / "spooky.yaml"
    ports = {name: backend_port for name, (_, backend_port) in backends.items()}
    config.write_text(yaml.safe_dump(_configuration(folder, port, ports), sort_keys=False))
    where = ", ".join(f"{name} on 127.0.0.1:{at}" for name, at in ports.items())
    print(f"HTTP/2 backends: {where}")
    print(f"Spooky: https://localhost:{port}, 2 workers, self-signed certificate", flush=True)
    # A session of its own, so that Ctrl-C reaches the demo alone, which then stops it.
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "spooky", "-c", str(config), start_new_session=True
    )
    try:
        await _started(process, folder / "spooky.pid")
        report = await send_requests(port, folder / "cert.pem")
        by = ", ".join(f"{name} {count}" for name, count in sorted(report.served.items()))
        print(
            f"{report.answered} of {report.asked} requests answered over HTTP/3, by backend: {by}",
            flush=True,
        )
        if not once:
            await _serve_until_interrupted(process, port)
    except (ConnectionError, TimeoutError) as error:
        print(f"The demo failed: {str(error) or 'no answer in time'}", file=sys.stderr)
        return 1
    finally:
        await _stop(process)
        for server, _ in backends.values():
            server.close()
    return 0 if report.answered == report.asked else 1


def _free_port() -> int:
    """Choose the usual port, or any if that is taken."""
    for port in (PREFERRED_PORT, 0):
        with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise OSError("no UDP port is free on 127.0.0.1")


def _configuration(folder: Path, port: int, backends: dict[str, int]) -> dict[str, object]:
    return {
        "version": 1,
        "worker_processes": 2,
        "listen": {
            "address": "127.0.0.1",
            "port": port,
            "tls": {"cert": "cert.pem", "key": "key.pem"},
        },
        "upstream": {
            "demo": {
                "route": {"path_prefix": "/"},
                "load_balancing": {"type": "round-robin"},
                "backends": [
                    {"id": name, "address": f"127.0.0.1:{at}"} for name, at in backends.items()
                ],
            }
        },
        "admin": "off",
        "log": {"level": "warning", "access": "off"},
        "drain_timeout": "2s",
        "pid": str(folder / "spooky.pid"),
    }


async def _started(process: asyncio.subprocess.Process, pidfile: Path) -> None:
    """Wait until Spooky has bound its port; ConnectionError if it does not."""
    async with asyncio.timeout(START_DEADLINE_S):
        while not pidfile.exists():
            if process.returncode is not None:
                raise ConnectionError(f"spooky exited with status {process.returncode}")
            await asyncio.sleep(0.02)


async def _serve_until_interrupted(process: asyncio.subprocess.Process, port: int) -> None:
    print(f"Still serving https://localhost:{port} (HTTP/3 only): Ctrl-C to stop", flush=True)
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted.set)
    waiting = {asyncio.create_task(interrupted.wait()), asyncio.create_task(process.wait())}
    _, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_DEADLINE_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
