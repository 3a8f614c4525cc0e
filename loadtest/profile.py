"""`make profile`: where a worker's time goes under one of the bench's workloads.

py-spy samples the worker while the bench's own client loads it. What it saw is written to
.bench/profile-WORKLOAD.svg as a flame graph, and printed as a table: the share of the samples in
which a function was running itself, and in which it or something that it called was.
"""

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from loadtest.origin import Site, backend, write_certificate
from loadtest.peers import PEERS, ROOT
from loadtest.processes import Cores, free_port, running, share_cores, talking
from loadtest.run import wait_for_answer
from loadtest.workloads import WORKLOADS

SAMPLES_PER_S = 500
ROWS = 45
LOOP = "(spooky/worker/main.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Profile one workload and print the table; the exit code."""
    parser = argparse.ArgumentParser(prog="loadtest.profile", description="Profile a worker.")
    parser.add_argument("--workload", choices=WORKLOADS, default="get1k")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rows", type=int, default=ROWS)
    options = parser.parse_args(arguments)
    spy = shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if spy is None:
        parser.exit(1, "py-spy is not installed: pip install py-spy\n")
    output = ROOT / ".bench"
    output.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="spooky-profile-") as folder:
        stacks = _sample(spy, options.workload, options.seconds, Path(folder))
        shutil.copy(Path(folder) / "flame.svg", output / f"profile-{options.workload}.svg")
    print(table(stacks, options.rows))
    print(f"flame graph: .bench/profile-{options.workload}.svg")
    return 0


def _sample(spy: str, workload: str, seconds: float, folder: Path) -> list[str]:
    """The stacks of the worker under load, as py-spy's raw format has them."""
    certificate, key = write_certificate(folder)
    cores = share_cores()
    port = free_port()
    site = Site(folder, certificate, key, free_port(), port, free_port())
    with (
        running(backend(folder, port), cores.others, folder / "backend.log"),
        running(PEERS["spooky"].launch(site), cores.proxy, folder / "output.log") as master,
    ):
        wait_for_answer(master, site.port)
        with _load(site.port, workload, 2 * seconds, cores) as client:
            assert client.stdout is not None
            client.stdout.readline()
            for kind, name in (("raw", "stacks.txt"), ("flamegraph", "flame.svg")):
                _record(spy, _worker(master), kind, folder / name, seconds)
    return (folder / "stacks.txt").read_text().splitlines()


def _load(
    port: int, workload: str, seconds: float, cores: Cores
) -> contextlib.AbstractContextManager["subprocess.Popen[str]"]:
    shape = WORKLOADS[workload]
    arguments = (
        str(port), "--workload", workload, "--connections", str(shape.connections),
        "--streams", str(shape.streams), "--seconds", str(seconds + 2),
    )  # fmt: skip
    return talking("loadtest.client", *arguments, cores=cores.others)


def _worker(master: psutil.Process) -> int:
    """The busiest child: only workers have anything to do under load."""
    return max(master.children(), key=lambda child: sum(child.cpu_times()[:2])).pid


def _record(spy: str, pid: int, kind: str, path: Path, seconds: float) -> None:
    command = [
        spy, "record", "--pid", str(pid), "--format", kind, "--output", str(path),
        "--duration", str(int(seconds)), "--rate", str(SAMPLES_PER_S), "--function",
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def table(stacks: Iterable[str], rows: int) -> str:
    """The functions by their own share of all samples, then by their share with all they call."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    total = 0
    for line in stacks:
        frames, _, count = line.rpartition(" ")
        names = frames.split(";")
        # What is above the worker's loop is in every stack: the master's way to it.
        names = names[max(at for at, name in enumerate(names) if at == 0 or LOOP in name) :]
        total += int(count)
        own[names[-1]] += int(count)
        for name in set(names):
            whole[name] += int(count)
    lines = [f"{'self':>6} {'whole':>6}  function"]
    lines += [_row(own[name], whole[name], total, name) for name, _ in own.most_common(rows)]
    lines += ["", f"{'self':>6} {'whole':>6}  function, by what it calls"]
    lines += [_row(own[name], whole[name], total, name) for name, _ in whole.most_common(rows)]
    return "\n".join(lines)


def _row(own: int, whole: int, total: int, name: str) -> str:
    return f"{own / total:6.1%} {whole / total:6.1%}  {name}"


if __name__ == "__main__":
    sys.exit(main())
