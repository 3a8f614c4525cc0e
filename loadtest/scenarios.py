"""What can happen to a proxy: the table of scenarios.

A scenario is groups of clients, each with its workload and its share of the time, and whether
Spooky is reloaded meanwhile. A new one is a new row here; the runner and the report know none.
"""

from dataclasses import dataclass

from loadtest.workloads import WORKLOADS, Workload


@dataclass(frozen=True, slots=True)
class Group:
    """Clients of one kind. They come and go at these shares of the scenario's time."""

    workload: Workload
    begins: float = 0.0
    ends: float = 1.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of day."""

    name: str
    what: str
    groups: tuple[Group, ...]
    seconds: float = 30.0
    """How long, unless told."""
    reload_every_s: float = 0.0
    """0: never."""
    workers: int = 1
    is_settled: bool = False
    """The load is the same all the time, so that what grows is a leak."""


GET = WORKLOADS["get1k"]
POST = WORKLOADS["post64k"]
CONNECT = WORKLOADS["connect"]
SLOW_GET = Workload(
    "slowget",
    "GET of 1 MiB, 16 KiB at a time",
    connections=20,
    streams=1,
    reply_bytes=1 << 20,
    pace_s=0.05,
)
SLOW_POST = Workload(
    "slowpost",
    "POST of 64 KiB, 2 KiB at a time",
    connections=20,
    streams=1,
    method="POST",
    upload_bytes=64 << 10,
    pace_s=0.05,
)

SCENARIOS = {
    row.name: row
    for row in (
        Scenario(
            "steady",
            "the same load all the time",
            (Group(GET.shaped(10, 4)),),
            is_settled=True,
        ),
        Scenario(
            "spike",
            "ten times the connections for a fifth of the time",
            (Group(GET.shaped(10, 2)), Group(GET.shaped(100, 2), 0.4, 0.6)),
        ),
        Scenario(
            "slow",
            "slow readers and slow senders beside a steady load",
            (Group(GET.shaped(10, 2)), Group(SLOW_GET), Group(SLOW_POST)),
            is_settled=True,
        ),
        Scenario(
            "churn",
            "every request on a connection of its own, beside a few lasting ones",
            (Group(CONNECT.shaped(10, 1)), Group(GET.shaped(2, 1))),
            is_settled=True,
        ),
        Scenario(
            "reload",
            "a reload every three seconds under load",
            (Group(GET.shaped(10, 2)), Group(POST.shaped(5, 1)), Group(CONNECT.shaped(2, 1))),
            reload_every_s=3.0,
            workers=2,
        ),
        Scenario(
            "soak",
            "a bit of everything, for long: leaks are looked for",
            (
                Group(GET.shaped(10, 2)),
                Group(POST.shaped(4, 1)),
                Group(CONNECT.shaped(2, 1)),
                Group(SLOW_GET.shaped(5, None)),
                Group(SLOW_POST.shaped(5, None)),
            ),
            seconds=600.0,
            is_settled=True,
        ),
    )
}
