"""The command: what it prints, what it exits with, what it does to a running master."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from spooky import __version__
from spooky.shm.instance import Admission, Cell
from spooky.shm.segment import attach_to
from tests.e2e.certificates import make_identity
from tests.master.running import ROOT, configure, free_port, master, wait_for


def spooky(*arguments: str | Path, seconds: float = 30) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "spooky", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
        cwd=ROOT,
    )


def write_config(folder: Path, **changes: Any) -> Path:
    identity = make_identity(folder, "localhost")
    settings: dict[str, Any] = {
        "version": 1,
        "worker_processes": 1,
        "listen": {
            "address": "127.0.0.1",
            "port": free_port(),
            "tls": {"cert": str(identity.cert), "key": str(identity.key)},
        },
        "upstream": {
            "web": {
                "route": {"path_prefix": "/"},
                "backends": [{"id": "b1", "address": "127.0.0.1:1"}],
            }
        },
        "admin": "off",
        "pid": str(folder / "spooky.pid"),
        "drain_timeout": "2s",
        **changes,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


# --- the configuration -------------------------------------------------------------------------


def test_a_good_configuration_is_ok(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    done = spooky("-t", "-c", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"configuration {path} is ok\n"


def test_the_resolved_configuration_is_a_configuration(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    done = spooky("-T", "-c", path)
    assert done.returncode == 0
    assert done.stdout.startswith(f"# configuration {path} is ok\n")
    again = tmp_path / "again.yaml"
    again.write_text(done.stdout)
    assert spooky("-T", "-c", again).stdout.splitlines()[1:] == done.stdout.splitlines()[1:]


def test_all_problems_are_told_with_their_lines(tmp_path: Path) -> None:
    path = write_config(tmp_path, worker_processes=-1, colour="red")
    done = spooky("-t", "-c", path)
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0] == f"spooky: configuration {path} is not usable:"
    assert len(lines) == 3
    assert all(re.search(r"^  (worker_processes|colour): .* \(line \d+\)$", x) for x in lines[1:])


def test_a_missing_key_file_is_a_problem_of_the_configuration(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    (tmp_path / "localhost.key").unlink()
    for arguments in (["-t"], []):
        done = spooky(*arguments, "-c", path)
        assert done.returncode == 2
        assert "localhost.key" in done.stderr
        assert "(line " in done.stderr


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    done = spooky("-t", "--config", tmp_path / "none.yaml")
    assert done.returncode == 2
    assert "none.yaml cannot be read: no such file" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["-x"], ["-s", "restart"], ["-p", "x.pid"], ["-t", "-s", "quit"], ["extra"]],
)
def test_a_wrong_command_line_exits_with_2(arguments: list[str]) -> None:
    done = spooky(*arguments)
    assert done.returncode == 2
    assert "usage: spooky" in done.stderr


def test_version_and_help() -> None:
    assert spooky("-V").stdout == f"spooky {__version__}\n"
    told = spooky("--help").stdout
    for word in ("reload", "reopen", "USR1", "exit codes", "demo"):
        assert word in told


def test_workers_of_a_dead_master_are_named(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    command = [sys.executable, "-m", "spooky", "-c", str(path)]
    log = tmp_path / "stderr"
    with log.open("wb") as errors:
        first = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=errors)
    family: list[psutil.Process] = []
    try:
        wait_for(lambda: "generation 1 serves" in log.read_text(), "start")
        family = psutil.Process(first.pid).children()
        (worker,) = [one for one in family if "spooky: worker" in " ".join(one.cmdline())]
        # It would leave at once, having no client.
        worker.suspend()
        first.kill()
        first.wait(10)
        done = spooky("-c", path)
        assert done.returncode == 3
        assert f"workers of a dead master still finish their requests (pids {worker.pid})" in (
            done.stderr
        )
    finally:
        first.kill()
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        first.wait(10)


# --- logs that cannot be -----------------------------------------------------------------------


def test_a_fifo_that_nobody_reads_is_waited_for_by_nobody(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for settings in ({"file": str(fifo), "access": "off"}, {"access": str(fifo)}):
        path = write_config(tmp_path, log=settings)
        assert spooky("-t", "-c", path).returncode == 0
        done = spooky("-c", path)
        assert done.returncode == 3
        assert f"{fifo}: nobody reads this FIFO; start its reader first" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_reload_to_a_fifo_that_nobody_reads_is_given_up(tmp_path: Path) -> None:
    log, fifo = tmp_path / "spooky.log", tmp_path / "fifo"
    os.mkfifo(fifo)
    path = write_config(tmp_path, log={"file": str(log), "access": "off"})
    command = [sys.executable, "-m", "spooky", "-c", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL) as running:
        try:
            wait_for(lambda: log.exists() and "generation 1 serves" in log.read_text(), "start")
            path.write_text(path.read_text().replace(str(log), str(fifo)))
            done = spooky("-s", "reload", "-c", path)
            assert done.returncode == 1
            reason = f"log.file: cannot open {fifo}: nobody reads this FIFO; start its reader first"
            assert reason in done.stderr
            assert "bug" not in log.read_text()
        finally:
            running.terminate()


def test_a_log_that_is_no_file_is_a_problem_of_the_configuration(tmp_path: Path) -> None:
    path = write_config(tmp_path, log={"file": str(tmp_path), "access": str(tmp_path)})
    for arguments in (["-t"], []):
        done = spooky(*arguments, "-c", path)
        assert done.returncode == 2
        for key in ("file", "access"):
            assert f"log.{key}: {tmp_path} is a folder; name a file (line " in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_log_out_of_reach_of_the_user_is_found_before_the_start(tmp_path: Path) -> None:
    """Folders of pytest are closed to others."""
    path = write_config(tmp_path, user="nobody", log={"access": str(tmp_path / "access.log")})
    for arguments in (["-t"], []):
        done = spooky(*arguments, "-c", path)
        assert done.returncode == 2
        assert "log.access: user nobody may not enter the folder " in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_access_log_that_the_worker_may_not_open_is_no_bug(tmp_path: Path) -> None:
    """The standard output of a test is a pipe of root's, which is seen by the worker alone."""
    path = write_config(tmp_path, user="nobody", log={"access": "/dev/stdout"})
    done = spooky("-c", path)
    assert done.returncode == 3
    reason = "log.access: cannot open /dev/stdout: permission denied for user nobody"
    assert f"cannot start: {reason}" in done.stderr
    assert f"before it was ready: {reason}" in done.stderr
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr


# --- the running program -----------------------------------------------------------------------


def test_it_runs_reloads_and_quits(tmp_path: Path) -> None:
    log = tmp_path / "spooky.log"
    path = write_config(tmp_path, log={"file": str(log), "access": "off"})
    with subprocess.Popen(
        [sys.executable, "-m", "spooky", "-c", str(path)], cwd=ROOT, stdin=subprocess.DEVNULL
    ) as running:
        try:
            wait_for(lambda: log.exists() and "generation 1 serves" in log.read_text(), "start")
            again = spooky("-c", path)
            assert again.returncode == 3
            assert f"already running as process {running.pid}" in again.stderr
            told = spooky("-s", "reload", "-c", path)
            assert (told.returncode, told.stderr) == (0, "")
            assert told.stdout == "reloaded: generation 2, 1 worker\n"
            assert "generation 2 serves" in log.read_text()
            path.write_text(path.read_text() + "colour: red\n")
            refused = spooky("-s", "reload", "-c", path)
            assert refused.returncode == 2
            assert "colour" in refused.stderr
            assert log.read_text().count("reloading") == 1, "the master was left alone"
            unknown = spooky("-s", "quit", "-c", path)
            assert unknown.returncode == 1
            assert "by -p" in unknown.stderr
            done = spooky("-s", "quit", "-p", tmp_path / "spooky.pid")
            assert (done.returncode, done.stdout) == (0, f"process {running.pid} has stopped\n")
            assert running.wait(10) == 0
        finally:
            running.kill()
    assert "Traceback" not in log.read_text()


def test_a_taken_port_is_a_failed_start(tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.mkdir()
    port = free_port()
    with master(first, ports=[port], workers=1) as running:
        running.is_up()
        path = write_config(tmp_path)
        text = yaml.safe_load(path.read_text())
        text["listen"]["port"] = port
        path.write_text(yaml.safe_dump(text))
        done = spooky("-c", path)
        assert done.returncode == 3
        last = done.stderr.splitlines()[-1]
        assert last.startswith(f"spooky: cannot bind udp 127.0.0.1:{port}: ")


# --- signals by the pidfile --------------------------------------------------------------------


def test_a_command_reaches_the_master(tmp_path: Path) -> None:
    with master(tmp_path, workers=1) as running:
        running.is_up()
        done = spooky("-s", "reopen", "-p", tmp_path / "spooky.pid")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"reopen: told process {running.pid}\n"
        running.says("logs reopened")


def test_a_reload_is_waited_for_and_told(tmp_path: Path) -> None:
    port = free_port()
    with master(tmp_path, ports=[port], workers=1) as running:
        running.is_up()
        configure(tmp_path, ports=[port], workers=2)
        done = spooky("-s", "reload", "-p", tmp_path / "spooky.pid")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "reloaded: generation 2, 2 workers\n"
        assert attach_to(running.pid).instance.serving() == (2, 1, 2)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"broken": True}, "listen.port: expected a port, got 'x' (line 3)"),
        (
            {"behaviour": "cannot start"},
            "worker 0 (gen 2) ended with exit code 3 before it was ready: no such key",
        ),
        ({"user": "no-such-account"}, "user: there is no user 'no-such-account' on this machine"),
    ],
)
def test_a_reload_that_fails_says_why(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    if "user" in changes and os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    port = free_port()
    with master(tmp_path, ports=[port], workers=1) as running:
        running.is_up()
        configure(tmp_path, **{"ports": [port], "workers": 1, **changes})
        done = spooky("-s", "reload", "-p", tmp_path / "spooky.pid")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"spooky: the old configuration stays: {reason}\n"
        assert attach_to(running.pid).instance.serving().generation == 1


def test_a_mistake_is_found_before_the_master_is_told(tmp_path: Path) -> None:
    with master(tmp_path, workers=1) as running:
        running.is_up()
        path = write_config(tmp_path, worker_processes=-1)
        done = spooky("-s", "reload", "-c", path, "-p", tmp_path / "spooky.pid")
        assert (done.returncode, done.stdout) == (2, "")
        assert "worker_processes" in done.stderr
        assert attach_to(running.pid).instance.get(Cell.RELOADS_BEGUN) == 0


def test_a_reload_that_takes_long_is_waited_for(tmp_path: Path) -> None:
    with master(tmp_path, workers=1, behaviour="drains for ever") as running:
        running.is_up()
        for number in range(2, 9):
            running.send(signal.SIGHUP)
            running.says(f"generation {number} serves")
        with subprocess.Popen(
            [sys.executable, "-m", "spooky", "-s", "reload", "-p", str(tmp_path / "spooky.pid")],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        ) as waiting:
            running.says("the reload waits until an older generation has drained")
            assert waiting.poll() is None
            os.kill(running.children()["spooky: worker 0 (gen 1)"], signal.SIGKILL)
            assert waiting.wait(15) == 0
            assert waiting.stdout is not None
            assert waiting.stdout.read() == "reloaded: generation 9, 1 worker\n"


def test_drain_and_resume_wait_until_it_is_so(tmp_path: Path) -> None:
    with master(tmp_path, workers=1, behaviour="drains for ever") as running:
        running.is_up()
        pidfile = tmp_path / "spooky.pid"
        instance = attach_to(running.pid).instance
        for command, says, admission in [
            ("drain", "new connections are refused; -s resume takes them again", "DRAINED"),
            ("drain", "new connections are refused; -s resume takes them again", "DRAINED"),
            ("resume", "new connections are taken again", "OPEN"),
            ("resume", "new connections are taken again", "OPEN"),
        ]:
            done = spooky("-s", command, "-p", pidfile)
            assert (done.returncode, done.stdout, done.stderr) == (0, f"{says}\n", "")
            assert instance.admission is Admission[admission]
        running.send(signal.SIGTERM)
        running.says("stopping once open requests are done")
        done = spooky("-s", "drain", "-p", pidfile)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"spooky: process {running.pid} is stopping\n"


def test_a_master_that_ends_meanwhile_is_told(tmp_path: Path) -> None:
    with master(tmp_path, workers=1) as running:
        running.is_up()
        os.kill(running.pid, signal.SIGSTOP)
        with subprocess.Popen(
            [sys.executable, "-m", "spooky", "-s", "reload", "-p", str(tmp_path / "spooky.pid")],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        ) as waiting:
            wait_for(lambda: is_pending(running.pid, signal.SIGHUP), "the signal")
            running.send(signal.SIGKILL)
            running.ends()
            assert waiting.wait(15) == 1
            assert waiting.stderr is not None
            assert waiting.stderr.read() == (
                f"spooky: process {running.pid} ended meanwhile; its log says why\n"
            )


def is_pending(pid: int, number: signal.Signals) -> bool:
    """Say whether a signal waits for a process that is stopped."""
    status = Path(f"/proc/{pid}/status").read_text()
    [mask] = [line.split()[1] for line in status.splitlines() if line.startswith("ShdPnd")]
    return bool(int(mask, 16) >> number - 1 & 1)


def test_quit_waits_and_stop_does_not_let_itself_be_kept(tmp_path: Path) -> None:
    with master(tmp_path, workers=1, behaviour="drains for ever", drain_timeout=60) as running:
        running.is_up()
        with subprocess.Popen(
            [sys.executable, "-m", "spooky", "-s", "quit", "-p", str(tmp_path / "spooky.pid")],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        ) as waiting:
            running.says("SIGQUIT: stopping once open requests are done")
            assert waiting.poll() is None
            done = spooky("-s", "stop", "-p", tmp_path / "spooky.pid")
            assert done.returncode == 0
            assert waiting.wait(10) == 0
            assert waiting.stdout is not None
            assert waiting.stdout.read() == f"process {running.pid} has stopped\n"
        assert running.ends() == 0


def test_stop_alone_is_at_once(tmp_path: Path) -> None:
    with master(tmp_path, workers=1, behaviour="drains for ever", drain_timeout=60) as running:
        running.is_up()
        assert spooky("-s", "stop", "-p", tmp_path / "spooky.pid").returncode == 0
        assert running.ends() == 0


@pytest.mark.parametrize(
    "command", ["reload", "quit", "stop", "reopen", "upgrade", "drain", "resume"]
)
def test_no_pidfile_is_an_error(tmp_path: Path, command: str) -> None:
    done = spooky("-s", command, "-p", tmp_path / "spooky.pid")
    assert done.returncode == 1
    assert done.stderr.startswith(f"spooky: no pidfile {tmp_path / 'spooky.pid'}: ")


def test_a_stale_pidfile_is_an_error_and_nobody_is_signalled(tmp_path: Path) -> None:
    pidfile = tmp_path / "spooky.pid"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        pidfile.write_text(f"{stranger.pid}\n")
        done = spooky("-s", "stop", "-c", write_config(tmp_path))
        assert done.returncode == 1
        assert f"is stale: process {stranger.pid} is gone or is not a Spooky master" in done.stderr
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without the right")
def test_no_permission_is_an_error(tmp_path: Path) -> None:
    with master(tmp_path, workers=1) as running:
        running.is_up()
        script = (
            "import os, sys\n"
            "from pathlib import Path\n"
            "from spooky import cli\n"
            "os.setresuid(65534, 65534, 65534)\n"
            f"cli._send({running.pid}, {int(signal.SIGTERM)})\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT
        )
        assert f"no permission to signal process {running.pid}" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without the right")
@pytest.mark.parametrize("command", ["reload", "drain"])
def test_no_permission_changes_nothing(tmp_path: Path, command: str) -> None:
    with master(tmp_path, workers=1) as running:
        before = running.is_up().children()
        # The pidfile is read first, for the folders of tests are closed to others.
        script = (
            "import os, sys\n"
            "from pathlib import Path\n"
            "from spooky import cli\n"
            "from spooky.master import pidfile\n"
            f"pidfile.read = lambda path: {running.pid}\n"
            "os.setresuid(65534, 65534, 65534)\n"
            f"sys.exit(cli.main(['-s', '{command}', '-p', '/nowhere']))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"spooky: no permission to look into process {running.pid}: ")
        assert running.children() == before
