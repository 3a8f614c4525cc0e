"""The running master: real processes, real signals."""

import contextlib
import os
import pwd
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from spooky.master import signals
from spooky.master.slots import LOOK_S, MOST_GENERATIONS
from spooky.shm.instance import Admission, Cell, Change, Instance, Outcome
from spooky.shm.segment import attach_to
from tests.master.running import Master, configure, free_port, master, wait_for

WORKERS = {"spooky: worker 0 (gen 1)", "spooky: worker 1 (gen 1)"}


def test_it_starts_under_its_titles_and_stops_in_good_order(tmp_path: Path) -> None:
    with master(tmp_path) as running:
        running.is_up()
        assert set(running.children()) == WORKERS | {"spooky: keeper"}
        title = " ".join(psutil.Process(running.pid).cmdline()).strip()
        assert title == f"spooky: master -c {tmp_path}"
        assert (tmp_path / "spooky.pid").read_text() == f"{running.pid}\n"
        running.send(signal.SIGTERM)
        assert running.ends() == 0
        assert "stopped: all workers left by themselves" in running.stderr()
        assert not (tmp_path / "spooky.pid").exists()


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGINT])
def test_other_signals_stop_it_too(tmp_path: Path, number: signal.Signals) -> None:
    with master(tmp_path) as running:
        running.is_up().send(number)
        assert running.ends() == 0


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    with master(tmp_path, behaviour="drains for ever") as running:
        running.is_up().send(signal.SIGTERM)
        running.says("SIGTERM: stopping once open requests are done")
        assert set(running.children()) == WORKERS | {"spooky: keeper"}
        running.send(signal.SIGTERM)
        assert running.ends(5) == 0
        assert "stopped: 2 workers were cut short, 0 had to be killed" in running.stderr()


def test_an_interrupt_from_the_terminal_leaves_workers_to_the_master(tmp_path: Path) -> None:
    with master(tmp_path, behaviour="drains for ever") as running:
        running.is_up()
        os.killpg(running.pid, signal.SIGINT)
        running.says("SIGINT: stopping once open requests are done")
        assert set(running.children()) == WORKERS | {"spooky: keeper"}
        assert "stopping at once" not in running.stderr()


def test_a_stop_is_bounded_by_the_drain_timeout(tmp_path: Path) -> None:
    with master(tmp_path, behaviour="drains for ever", drain_timeout=0.2) as running:
        running.is_up().send(signal.SIGQUIT)
        assert running.ends(5) == 0
        assert "stopped: 2 workers were cut short, 0 had to be killed" in running.stderr()


def test_a_worker_that_never_leaves_is_killed_and_counted(tmp_path: Path) -> None:
    with master(tmp_path, behaviour="never leaves", workers=1) as running:
        running.is_up().send(signal.SIGTERM)
        running.says("stopping once")
        running.send(signal.SIGINT)
        assert running.ends(10) == 0
        assert "stopped: 1 workers were cut short, 1 had to be killed" in running.stderr()


def test_a_killed_worker_is_replaced_in_its_slot_and_the_other_stays(tmp_path: Path) -> None:
    with master(tmp_path) as running:
        before = running.is_up().children()
        victim = "spooky: worker 1 (gen 1)"
        os.kill(before[victim], signal.SIGKILL)
        running.says("was killed by SIGKILL")
        running.says("started worker 1 (gen 1)", times=2)
        after = wait_for(lambda: now if victim in (now := running.children()) else None, victim)
        assert after[victim] != before[victim]
        assert {title: after[title] for title in before if title != victim} == {
            title: pid for title, pid in before.items() if title != victim
        }


def test_a_killed_keeper_is_replaced(tmp_path: Path) -> None:
    with master(tmp_path, workers=1) as running:
        before = running.is_up().children()["spooky: keeper"]
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: running.children().get("spooky: keeper", before) != before, "a new keeper")


def test_a_worker_that_cannot_start_stops_the_first_start(tmp_path: Path) -> None:
    with master(tmp_path, behaviour="cannot start") as running:
        assert running.ends() == 3
        last = running.stderr().splitlines()[-1]
        assert last.startswith("spooky: worker ")
        assert last.endswith("ended with exit code 3 before it was ready: no such key")
        assert "Traceback" not in running.stderr()
        assert not (tmp_path / "spooky.pid").exists()


def test_a_bug_in_a_worker_leaves_its_traceback(tmp_path: Path) -> None:
    with master(tmp_path, behaviour="has a bug", workers=1) as running:
        assert running.ends() == 3
        assert "Traceback" in running.stderr()
        assert running.stderr().endswith(
            "ended with exit code 1 before it was ready: ValueError: a bug in the worker\n"
        )


def test_a_second_instance_is_refused_by_the_pidfile(tmp_path: Path) -> None:
    with master(tmp_path) as running:
        running.is_up()
        second = Master(tmp_path)
        assert second.ends() == 3
        assert f"Spooky is already running as process {running.pid}" in running.stderr()
        assert set(running.children()) == WORKERS | {"spooky: keeper"}
        assert (tmp_path / "spooky.pid").read_text() == f"{running.pid}\n"


def test_a_second_instance_is_refused_by_its_udp_address(tmp_path: Path) -> None:
    port = free_port()
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with master(first, ports=[port], workers=1) as running:
        running.is_up()
        with master(second, ports=[port], workers=1) as other:
            assert other.ends() == 3
            assert f"cannot bind udp 127.0.0.1:{port}: the address is already in use" in (
                other.stderr()
            )
            assert not (second / "spooky.pid").exists()


def test_a_taken_admin_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with master(tmp_path, admin_port=port) as running:
            assert running.ends() == 3
            assert f"cannot bind the admin endpoint, tcp 127.0.0.1:{port}" in running.stderr()


def test_a_stale_pidfile_is_overwritten_with_a_word(tmp_path: Path) -> None:
    (tmp_path / "spooky.pid").write_text(f"{os.getpid()}\n")
    with master(tmp_path, workers=1) as running:
        running.is_up()
        assert f"overwriting the stale pidfile {tmp_path / 'spooky.pid'}" in running.stderr()
        assert (tmp_path / "spooky.pid").read_text() == f"{running.pid}\n"


def test_children_hold_no_sockets_but_their_own(tmp_path: Path) -> None:
    port, admin_port = free_port(), free_port(socket.SOCK_STREAM)
    with master(tmp_path, ports=[port], admin_port=admin_port) as running:
        children = running.is_up().children()
        keeper = psutil.Process(children.pop("spooky: keeper"))
        for pid in children.values():
            inherited = psutil.Process(pid).net_connections("inet")
            assert [one.laddr.port for one in inherited] == [port]
            # Its mailbox, and the way to those that there are from the beginning.
            mailboxes = 1 + 8 * len(WORKERS)
            assert len(psutil.Process(pid).net_connections("unix")) <= mailboxes
            # And standard input, output and error, the shared memory and its mapping's copy, and
            # a pipe to say why it failed.
            assert len(os.listdir(f"/proc/{pid}/fd")) <= 3 + 1 + mailboxes + 2 + 1
        assert [one.laddr.port for one in keeper.net_connections("inet")] == [admin_port]


def test_the_death_of_the_master_ends_its_children(tmp_path: Path) -> None:
    with master(tmp_path) as running:
        children = running.is_up().children()
        running.send(signal.SIGKILL)
        running.ends()
        try:
            wait_for(lambda: not any(psutil.pid_exists(pid) for pid in children.values()), "all go")
        finally:
            for pid in children.values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTTIN, signal.SIGTTOU])
def test_signals_of_later_versions_change_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with master(tmp_path, workers=1) as running:
        before = running.is_up().children()
        running.send(number)
        running.says(f"{number.name} is not supported in this version")
        assert running.children() == before


# --- hangs -------------------------------------------------------------------------------------


def test_a_worker_that_hangs_is_killed_and_replaced_and_the_other_stays(tmp_path: Path) -> None:
    with master(tmp_path, worker_timeout=2.0) as running:
        before = running.is_up().children()
        victim = "spooky: worker 0 (gen 1)"
        os.kill(before[victim], signal.SIGSTOP)
        running.says("slot 0: its process does not react and is killed")
        running.says("worker 0 (gen 1) was killed by SIGKILL")
        running.says("started worker 0 (gen 1)", times=2)
        after = wait_for(lambda: now if len(now := running.children()) == 3 else None, "all three")
        assert after[victim] != before[victim]
        assert {one: pid for one, pid in after.items() if one != victim} == {
            one: pid for one, pid in before.items() if one != victim
        }
        running.send(signal.SIGTERM)
        assert running.ends() == 0
        assert "stopped: 0 workers were cut short, 1 had to be killed" in running.stderr()


def test_after_a_stop_of_all_processes_nobody_is_killed(tmp_path: Path) -> None:
    with master(tmp_path, worker_timeout=2.0) as running:
        before = running.is_up().children()
        end = time.monotonic() + 3 * LOOK_S + 0.2
        os.killpg(running.pid, signal.SIGSTOP)
        wait_for(lambda: time.monotonic() > end, "longer than their patience")
        # The master first: it must not take the others for hung.
        os.kill(running.pid, signal.SIGCONT)
        os.killpg(running.pid, signal.SIGCONT)
        running.send(signal.SIGUSR1)
        running.says("logs reopened")
        running.says("]: reopened", times=2)
        assert running.children() == before
        assert "does not react" not in running.stderr()


# --- drain and resume --------------------------------------------------------------------------


def test_new_connections_are_refused_until_they_are_welcome_again(tmp_path: Path) -> None:
    with master(tmp_path, workers=1) as running:
        instance = attach_to(running.is_up().pid).instance
        admissions = [instance.admission]
        for number, says in (
            (signals.DRAIN_INSTANCE, "new connections are refused"),
            # A new configuration does not open what the operator has closed.
            (signal.SIGHUP, "generation 2 serves"),
            (signals.RESUME_INSTANCE, "new connections are welcome again"),
        ):
            running.send(number)
            running.says(says)
            admissions.append(instance.admission)
        assert admissions == [
            Admission.OPEN,
            Admission.DRAINED,
            Admission.DRAINED,
            Admission.OPEN,
        ]
        running.send(signal.SIGTERM)
        assert running.ends() == 0


def test_an_instance_that_stops_is_not_opened_again(tmp_path: Path) -> None:
    with master(tmp_path, workers=1, behaviour="drains for ever") as running:
        running.is_up().send(signal.SIGTERM)
        running.says("stopping once open requests are done")
        instance = attach_to(running.pid).instance
        assert instance.admission is Admission.STOPPING
        running.send(signals.RESUME_INSTANCE)
        running.send(signal.SIGUSR1)
        running.says("logs reopened")
        assert instance.admission is Admission.STOPPING


# --- reload ------------------------------------------------------------------------------------


def test_a_reload_replaces_all_processes_and_keeps_the_socket(tmp_path: Path) -> None:
    port = free_port()
    with master(tmp_path, ports=[port]) as running:
        before = running.is_up().children()
        running.send(signal.SIGHUP)
        running.says("generation 2 serves")
        wanted = {"spooky: worker 0 (gen 2)", "spooky: worker 1 (gen 2)", "spooky: keeper"}
        wait_for(lambda: not set(before.values()) & running.pids(), "none of the old")
        wait_for(lambda: set(running.children()) == wanted, "the new")
        ports = {one.laddr.port for one in psutil.Process(running.pid).net_connections("inet")}
        assert ports == {port}
        running.send(signal.SIGHUP)
        running.says("generation 3 serves")
        running.send(signal.SIGTERM)
        assert running.ends() == 0


def test_a_broken_configuration_is_refused_and_the_old_one_stays(tmp_path: Path) -> None:
    port = free_port()
    with master(tmp_path, ports=[port]) as running:
        before = running.is_up().children()
        configure(tmp_path, ports=[port], broken=True)
        running.send(signal.SIGHUP)
        running.says("reload refused: listen.port: expected a port, got 'x' (line 3)")
        running.says("reload refused, the old configuration stays")
        assert running.children() == before


def test_a_generation_that_cannot_start_is_given_up(tmp_path: Path) -> None:
    port, added = free_port(), free_port()
    with master(tmp_path, ports=[port]) as running:
        before = running.is_up().children()
        configure(tmp_path, ports=[port, added], behaviour="cannot start")
        running.send(signal.SIGHUP)
        running.says("reload refused: worker")
        running.says(f"no longer listening on udp 127.0.0.1:{added}")
        wait_for(lambda: running.children() == before, "the old processes alone")
        configure(tmp_path, ports=[port])
        running.send(signal.SIGHUP)
        running.says("generation 3 serves")


def test_what_came_of_reloads_is_in_the_shared_memory(tmp_path: Path) -> None:
    port = free_port()
    with master(tmp_path, ports=[port], workers=2) as running:
        instance = attach_to(running.is_up().pid).instance
        assert instance.outcome(Change.RELOAD) == (0, False, "")
        assert instance.get(Cell.MASTER_PID) == running.pid
        outcomes: list[Outcome] = []
        for changes in (
            {},
            {"broken": True},
            {"behaviour": "cannot start", "workers": 1},
            {"workers": 1},
        ):
            configure(tmp_path, **{"ports": [port], **changes})
            running.send(signal.SIGHUP)
            outcomes.append(next_outcome(instance, len(outcomes)))
        assert outcomes == [
            (1, True, "generation 2, 2 workers"),
            (2, False, "listen.port: expected a port, got 'x' (line 3)"),
            (
                3,
                False,
                "worker 0 (gen 3) ended with exit code 3 before it was ready: no such key",
            ),
            (4, True, "generation 4, 1 worker"),
        ]
        assert instance.serving().generation == 4
        assert instance.previous().generation == 2


def next_outcome(instance: Instance, count: int) -> Outcome:
    """Wait until more than `count` reloads have ended; give the outcome of the last."""
    wait_for(lambda: instance.outcome(Change.RELOAD).ended > count, "the end of a reload")
    return instance.outcome(Change.RELOAD)


def test_a_reload_waits_for_room_and_goes_on(tmp_path: Path) -> None:
    with master(tmp_path, workers=1, behaviour="drains for ever") as running:
        running.is_up()
        for number in range(2, MOST_GENERATIONS + 1):
            running.send(signal.SIGHUP)
            running.says(f"generation {number} serves")
        running.send(signal.SIGHUP)
        running.says("the reload waits until an older generation has drained")
        instance = attach_to(running.pid).instance
        assert instance.outcome(Change.RELOAD).ended == MOST_GENERATIONS - 1
        children = running.children()
        assert not any("(gen 9)" in title for title in children)
        os.kill(children["spooky: worker 0 (gen 3)"], signal.SIGKILL)
        running.says("generation 9 serves")
        assert next_outcome(instance, MOST_GENERATIONS - 1) == (
            MOST_GENERATIONS,
            True,
            "generation 9, 1 worker",
        )
        assert instance.serving() == (9, 2, 1), "in the slot that became free"


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)])
def test_a_reload_changes_the_count_of_workers(tmp_path: Path, before: int, after: int) -> None:
    port = free_port()
    with master(tmp_path, ports=[port], workers=before) as running:
        running.is_up()
        configure(tmp_path, ports=[port], workers=after)
        running.send(signal.SIGHUP)
        running.says(f"generation 2 serves with {after} workers")
        wanted = {f"spooky: worker {index} (gen 2)" for index in range(after)}
        wait_for(
            lambda: set(running.children()) == wanted | {"spooky: keeper"}, "the new workers alone"
        )
        assert attach_to(running.pid).instance.serving() == (2, before, after)


def test_listeners_come_and_go_with_a_reload(tmp_path: Path) -> None:
    old, new = free_port(), free_port()

    def bound() -> set[int]:
        return {one.laddr.port for one in psutil.Process(running.pid).net_connections("inet")}

    with master(tmp_path, ports=[old], workers=1) as running:
        running.is_up()
        configure(tmp_path, ports=[new], workers=1)
        running.send(signal.SIGHUP)
        running.says("generation 2 serves")
        wait_for(lambda: bound() == {new}, "the old port closed after the drain")


def test_a_reload_to_a_taken_address_is_refused(tmp_path: Path) -> None:
    port = free_port()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken,
        master(tmp_path, ports=[port], workers=1) as running,
    ):
        taken.bind(("127.0.0.1", 0))
        before = running.is_up().children()
        configure(tmp_path, ports=[port, taken.getsockname()[1]], workers=1)
        running.send(signal.SIGHUP)
        running.says("the address is already in use")
        running.says("the old configuration stays")
        assert running.children() == before


def test_reloads_do_not_cut_a_drain_short(tmp_path: Path) -> None:
    with master(tmp_path, workers=1, behaviour="drains for ever") as running:
        running.is_up()
        for number in (2, 3):
            running.send(signal.SIGHUP)
            running.says(f"generation {number} serves")
        wanted = {f"spooky: worker 0 (gen {number})" for number in (1, 2, 3)}
        wait_for(lambda: set(running.children()) == wanted | {"spooky: keeper"}, "all of them")
        assert attach_to(running.pid).processes.occupied() == [0, 1, 2]


# --- logs --------------------------------------------------------------------------------------


def test_logs_are_reopened_after_a_rotation(tmp_path: Path) -> None:
    file, rotated = tmp_path / "spooky.log", tmp_path / "spooky.log.1"
    with master(tmp_path, log=str(file)) as running:
        wait_for(lambda: file.exists() and "generation 1 serves" in file.read_text(), "start")
        file.rename(rotated)
        running.send(signal.SIGUSR1)
        wait_for(
            lambda: file.exists() and file.read_text().count("]: reopened") == len(WORKERS),
            "both workers in the new file",
        )
        running.send(signal.SIGTERM)
        running.ends()
        assert "master" in file.read_text()
        assert "stopped" in file.read_text()
        assert "stopped" not in rotated.read_text()


# --- rights ------------------------------------------------------------------------------------

NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can get into, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def rights(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_children_become_the_user_for_good(open_folder: Path) -> None:
    logs = open_folder / "logs"
    logs.mkdir()
    file, access = logs / "spooky.log", logs / "access.log"
    with master(
        open_folder, user="nobody", log=str(file), access=str(access), workers=1
    ) as running:
        wait_for(lambda: file.exists() and "generation 1 serves" in file.read_text(), "start")
        for pid in running.children().values():
            status = rights(pid)
            assert set(status["Uid"].split()) == {str(NOBODY.pw_uid)}
            assert set(status["Gid"].split()) == {str(NOBODY.pw_gid)}
            assert set(status["Groups"].split()) <= {str(NOBODY.pw_gid)}
            assert int(status["CapEff"], 16) == 0
            assert int(status["CapPrm"], 16) == 0
        assert rights(running.pid)["Uid"].split() == ["0"] * 4
        assert access.stat().st_uid == NOBODY.pw_uid
        file.rename(logs / "spooky.log.1")
        running.send(signal.SIGUSR1)
        wait_for(lambda: file.exists() and "]: reopened" in file.read_text(), "worker's reopen")
        assert file.stat().st_uid == NOBODY.pw_uid
        children = running.children()
        running.send(signal.SIGKILL)
        running.ends()
        wait_for(
            lambda: not any(psutil.pid_exists(pid) for pid in children.values()),
            "the death of the master reaches processes of another user",
        )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_unknown_account_is_named(tmp_path: Path) -> None:
    with master(tmp_path, user="no-such-account") as running:
        assert running.ends() == 3
        assert "user: there is no user 'no-such-account'" in running.stderr()
    with master(tmp_path, group="no-such-account") as running:
        assert running.ends() == 3
        assert "group: there is no group 'no-such-account'" in running.stderr()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gets the warning")
def test_root_without_a_user_is_warned(tmp_path: Path) -> None:
    with master(tmp_path, workers=1) as running:
        assert "workers run as root: set `user`" in running.is_up().stderr()


# --- systemd -----------------------------------------------------------------------------------


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(tmp_path: Path, abstract: bool) -> None:
    address = f"@spooky-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    port = free_port()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as service_manager:
        service_manager.bind("\0" + address[1:] if abstract else address)
        service_manager.settimeout(15)

        def told() -> list[str]:
            return service_manager.recv(4096).decode().split("\n")

        with master(tmp_path, {"NOTIFY_SOCKET": address}, workers=1, ports=[port]) as running:
            assert told()[:2] == ["READY=1", f"MAINPID={running.pid}"]
            running.send(signal.SIGHUP)
            reloading = told()
            assert reloading[0] == "RELOADING=1"
            assert reloading[1].startswith("MONOTONIC_USEC=")
            assert told()[0] == "READY=1"
            configure(tmp_path, ports=[port], broken=True)
            running.send(signal.SIGHUP)
            assert told()[0] == "RELOADING=1"
            assert told()[0] == "READY=1"
            running.send(signal.SIGTERM)
            assert told()[0] == "STOPPING=1"


def test_the_watchdog_hears_that_the_loop_turns(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as service_manager:
        service_manager.bind(address)
        service_manager.settimeout(15)
        variables = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "600000"}
        with master(tmp_path, variables, workers=1):
            told: list[str] = []
            while told.count("WATCHDOG=1") < 3:
                told += service_manager.recv(4096).decode().split("\n")
            assert "READY=1" in told


# --- the watch ---------------------------------------------------------------------------------


def test_a_change_of_the_configuration_is_a_reload(tmp_path: Path) -> None:
    ports = [free_port()]
    with master(tmp_path, workers=1, ports=ports, watch=True) as running:
        running.is_up()
        configure(tmp_path, workers=2, ports=ports, watch=False)
        running.says("the configuration, or a file that it names, has changed")
        running.says("generation 2 serves with 2 workers")
        configure(tmp_path, workers=1, ports=ports)
        running.send(signal.SIGUSR1)
        running.says("logs reopened")
        assert running.stderr().count("reloading the configuration") == 1, "switched off"


def test_a_broken_change_is_refused_once(tmp_path: Path) -> None:
    with master(tmp_path, workers=1, watch=True) as running:
        running.is_up()
        configure(tmp_path, broken=True)
        running.says("reload refused, the old configuration stays")
        running.send(signal.SIGHUP)
        running.says("reload refused, the old configuration stays", 2)
        assert running.stderr().count("has changed") == 1
