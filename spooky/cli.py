"""The `spooky` command: start a master, test a configuration, signal a running master.

Thin: it parses arguments, calls what does the work and turns errors into messages and exit
codes. It imports what workers run before the master forks, so that they share those pages.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from spooky import __version__, ctl
from spooky.config import overlay
from spooky.config.backend_tls import make_client_context
from spooky.config.certs import load_identities
from spooky.config.contents import read_contents
from spooky.config.dump import dump
from spooky.config.load import load, load_and_inspect
from spooky.config.model import Config
from spooky.config.sessions import load_session_keys
from spooky.errors import ConfigError, ExitCode, SpookyError, StartupError
from spooky.master import pidfile, signals, takeover
from spooky.master.blueprint import Program, Resolved
from spooky.shm.instance import Admission, Cell, Change, Instance
from spooky.shm.segment import attach_to

DEFAULT_CONFIG: Final = Path("/etc/spooky/config.yaml")
STOP_WAIT_S: Final = 15.0
PATIENCE_S: Final = 10.0
"""After which somebody who waits is told that it goes on."""
POLL_S: Final = 0.05

COMMANDS: Final[dict[str, tuple[int, ...]]] = {
    "reload": (signal.SIGHUP,),
    "quit": (signal.SIGQUIT,),
    # Two different ones: the kernel does not queue the same signal twice.
    "stop": (signal.SIGTERM, signal.SIGINT),
    "reopen": (signal.SIGUSR1,),
    "upgrade": (signal.SIGUSR2,),
    "drain": (signals.DRAIN_INSTANCE,),
    "resume": (signals.RESUME_INSTANCE,),
}

_CHANGES: Final = {
    "reload": (Change.RELOAD, "reloaded", "configuration"),
    "upgrade": (Change.UPGRADE, "upgraded", "program"),
}
"""What is waited for, and the words for its good and its bad end."""

EPILOG: Final = """\
commands:
  spooky demo       show HTTP/3 requests on their way to HTTP/2 backends, on this machine
  spooky status     show the processes and backends of a running master; --json for programs
  spooky ctl        change how backends are used while Spooky runs: spooky ctl drain api/b1

signals to the master:
  HUP               reload the configuration
  QUIT, TERM, INT   finish open requests and stop; the second one stops at once
  USR1              reopen the logs
  USR2              start the program anew from what is installed now, and hand over to it
  RTMIN+1, RTMIN+2  take no new connections; take them again

exit codes:
  0  done
  1  the command could not be carried out
  2  wrong configuration or wrong command line
  3  the start failed: an address in use, a missing right, a worker that did not start
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spooky",
        description="An HTTP/3 load balancer. Without options it runs in the foreground.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-c",
        "--config",
        type=Path,
        metavar="FILE",
        help=f"configuration file (default: {DEFAULT_CONFIG})",
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "-t", dest="test", action="store_true", help="test the configuration and exit"
    )
    mode.add_argument(
        "-T", dest="dump", action="store_true", help="test it, and print it with all defaults"
    )
    mode.add_argument(
        "-s", dest="command", choices=COMMANDS, help="tell the running master what to do"
    )
    parser.add_argument(
        "-p", dest="pidfile", type=Path, metavar="PIDFILE", help="find the master by this file"
    )
    parser.add_argument("-V", "--version", action="version", version=f"spooky {__version__}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    try:
        return _dispatch(list(sys.argv[1:] if argv is None else argv))
    except BrokenPipeError:
        # Whoever read has seen enough; nor is the interpreter to complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILURE


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] == ["demo"]:
        from spooky.demo.run import main as demo  # noqa: PLC0415 - it needs clients and servers

        return demo(arguments[1:])
    if arguments[:1] == ["status"]:
        return show_status(arguments[1:])
    if arguments[:1] == ["ctl"]:
        return control(arguments[1:])
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.pidfile and not options.command:
        parser.error("-p goes with -s")
    path = options.config or DEFAULT_CONFIG
    try:
        if options.command:
            return signal_master(options.command, options.config, options.pidfile)
        if options.test or options.dump:
            return test(path, show=options.dump)
        return run(path)
    except ConfigError as error:
        _complain(f"configuration {path} is not usable:")
        for problem in error.problems:
            print(f"  {problem}", file=sys.stderr)
        return ExitCode.CONFIG
    except StartupError as error:
        _complain(str(error))
        return ExitCode.FAILURE if options.command else ExitCode.BOOT


def _complain(text: str) -> None:
    print(f"spooky: {text}", file=sys.stderr)


def resolve(path: Path, changes: str = "") -> Resolved:
    """Read a configuration and every file that it names. ConfigError, StartupError.

    `changes` is what operators have changed of it while it runs, as `config.overlay` writes it: all
    that it takes is made ready, but the configuration stays that of the file.
    """
    now = datetime.now(UTC)
    loaded, inspection = load_and_inspect(path, now)
    config = loaded.config
    changed = overlay.lay_over(overlay.read(changes), config)
    identities = tuple(
        load_identities(listener.tls, now, f"listen[{index}].tls", loaded.places)
        for index, listener in enumerate(config.listen)
    )
    contexts = {
        upstream.name: make_client_context(upstream.tls)
        for upstream in changed.upstream
        if any(backend.tls for backend in upstream.backends)
    }
    keys = load_session_keys(config.upstream, loaded.places)
    notices = (*loaded.notices, *inspection.notices)
    return Resolved(config, identities, contexts, keys, notices, read_contents(config))


def test(path: Path, *, show: bool) -> ExitCode:
    """Say whether a configuration is usable; `show` prints it whole. ConfigError, StartupError."""
    resolved = resolve(path)
    for notice in resolved.notices:
        _complain(f"notice: {notice}")
    # With -T a comment, so that what is printed is a configuration again.
    print(f"{'# ' if show else ''}configuration {path} is ok")
    if show:
        print(dump(resolved.config), end="")
    return ExitCode.OK


def run(path: Path) -> ExitCode:
    """Run a master in the foreground until it is told to stop. ConfigError, StartupError."""
    from spooky.keeper.main import run as keeper  # noqa: PLC0415 - only a master needs these
    from spooky.master.arbiter import Arbiter  # noqa: PLC0415
    from spooky.master.confinement import forbid_core_dumps  # noqa: PLC0415
    from spooky.worker.main import run as worker  # noqa: PLC0415

    # Before the first key is read.
    forbid_core_dumps()
    program = Program(f"-c {path}", path, lambda changes: resolve(path, changes), worker, keeper)
    heritage = takeover.receive()
    try:
        changes = str(heritage.state["overlay"]) if heritage is not None else ""
        return Arbiter(program, program.read(changes), heritage).run()
    except SpookyError as error:
        if heritage is not None:
            heritage.say(str(error))
        raise


def signal_master(command: str, config: Path | None, named: Path | None) -> ExitCode:
    """Signal the running master and say what came of it. ConfigError, StartupError.

    `named` is its pidfile; without it the configuration says where it is, and `reload` then
    first tests that configuration, so that a mistake is seen where it was made.
    """
    wait_s = None
    if named is None or config is not None:
        found = _config_of(config or DEFAULT_CONFIG, command)
        named, wait_s = named or found.pid, found.drain_timeout + STOP_WAIT_S
    pid = pidfile.running_master(named)
    instance = attach_to(pid).instance
    before = {
        # A reload that began before may have read the file before it was changed.
        "reload": instance.begun(Change.RELOAD),
        "upgrade": instance.outcome(Change.UPGRADE).ended,
    }
    for number in COMMANDS[command]:
        _send(pid, number)
    match command:
        case "reload" | "upgrade":
            _report_change(command, instance, before[command])
        case "drain":
            _wait_for_admission(pid, instance, Admission.DRAINED)
            print("new connections are refused; -s resume takes them again")
        case "resume":
            _wait_for_admission(pid, instance, Admission.OPEN)
            print("new connections are taken again")
        case "quit":
            _wait_until_gone(pid, wait_s)
        case "stop":
            _wait_until_gone(pid, STOP_WAIT_S)
        case _:
            print(f"{command}: told process {pid}")
    return ExitCode.OK


def show_status(arguments: Sequence[str]) -> ExitCode:
    """Print how the running master and all that belongs to it are."""
    from spooky.status import show, snapshot  # noqa: PLC0415 - workers have no use for these

    parser = argparse.ArgumentParser(
        prog="spooky status", description="Show the processes and backends of a running master."
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-c", "--config", type=Path, metavar="FILE", default=DEFAULT_CONFIG)
    where.add_argument("-p", dest="pidfile", type=Path, metavar="PIDFILE")
    parser.add_argument("--json", action="store_true", help="with all there is, for programs")
    options = parser.parse_args(arguments)
    try:
        pid = pidfile.running_master(options.pidfile or _config_of(options.config, "status").pid)
        found = snapshot.take(pid, attach_to(pid))
    except StartupError as error:
        _complain(str(error))
        return ExitCode.FAILURE
    print(show.as_json(found) if options.json else show.as_table(found))
    return ExitCode.OK


def control(arguments: Sequence[str]) -> ExitCode:
    """Have the running instance change how it uses a backend, and print what is so then."""
    parser = argparse.ArgumentParser(
        prog="spooky ctl",
        description="Change how backends are used, at once and in all workers.",
        epilog="\n".join(f"  {action:8} {about}" for action, about in ctl.ACTIONS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-c", "--config", type=Path, metavar="FILE", default=DEFAULT_CONFIG)
    where.add_argument("--socket", type=Path, metavar="PATH", help="the control socket")
    parser.add_argument("action", choices=ctl.ACTIONS)
    parser.add_argument("backend", help="UPSTREAM/ID, or an address as in the configuration")
    parser.add_argument("value", nargs="?", default="", help="for weight, health and add")
    parser.add_argument("--weight", default="", help="for add; default: 100")
    options = parser.parse_args(arguments)
    if (options.action in ctl.WITH_VALUE) != bool(options.value):
        wanted = "needs a" if options.action in ctl.WITH_VALUE else "takes no"
        parser.error(f"{options.action} {wanted} value")
    try:
        path = options.socket or _control_of(options.config)
        answer = ctl.ask(path, options.action, options.backend, options.value, options.weight)
    except StartupError as error:
        _complain(str(error))
        return ExitCode.FAILURE
    if not answer.ok:
        _complain(answer.text)
        return ExitCode.FAILURE
    print(f"{options.backend}: {answer.text}")
    return ExitCode.OK


def _control_of(path: Path) -> Path:
    found = _config_of(path, "ctl").control
    if found is None:
        raise StartupError(f"`control` is off in {path}: there is no socket for commands")
    return Path(found)


def _config_of(path: Path, command: str) -> Config:
    if command == "reload":
        return resolve(path).config
    try:
        return load(path).config
    except ConfigError as error:
        hint = "give the master's pidfile by -p to find it without this configuration"
        raise StartupError(f"{path} does not say where the pidfile is ({error}): {hint}") from error


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except PermissionError:
        raise StartupError(
            f"no permission to signal process {pid}: be root, or the user that started it"
        ) from None
    except ProcessLookupError:
        # Gone between the look and the signal; a wait for its end finds that out.
        return


def _report_change(command: str, instance: Instance, before: int) -> None:
    """Wait until more than `before` changes of a kind have ended; say how the last one went."""
    change, done, stays = _CHANGES[command]
    told_at = time.monotonic() + PATIENCE_S
    while (outcome := instance.outcome(change)).ended <= before:
        # Not the one that was told: another may have taken over since.
        pid = instance.get(Cell.MASTER_PID)
        if not pidfile.is_master(pid) and instance.outcome(change).ended <= before:
            raise StartupError(f"process {pid} ended meanwhile; its log says why")
        if told_at and time.monotonic() > told_at:
            told_at = 0.0
            _complain(f"process {pid} is still at it; its log says what it waits for")
        time.sleep(POLL_S)
    if not outcome.succeeded:
        raise StartupError(f"the old {stays} stays: {outcome.text}")
    print(f"{done}: {outcome.text}")


def _wait_for_admission(pid: int, instance: Instance, wanted: Admission) -> None:
    while instance.admission is not wanted:
        _expect_master(pid)
        if instance.admission is Admission.STOPPING:
            raise StartupError(f"process {pid} is stopping")
        time.sleep(POLL_S)


def _expect_master(pid: int) -> None:
    if not pidfile.is_master(pid):
        raise StartupError(f"process {pid} ended meanwhile; its log says why")


def _wait_until_gone(pid: int, limit_s: float | None) -> None:
    deadline = None if limit_s is None else time.monotonic() + limit_s
    while pidfile.is_master(pid):
        if deadline is not None and time.monotonic() > deadline:
            raise StartupError(f"process {pid} is still there: stop it at once with -s stop")
        time.sleep(POLL_S)
    print(f"process {pid} has stopped")
