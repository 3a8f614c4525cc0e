"""The arithmetic of the bench's report, on rounds made up for it."""

import json
from dataclasses import replace

import pytest

from loadtest.measure import CpuUse, LoadResult, Memory
from loadtest.report import Round, aligned, as_json, ratios, summarise, table, verdict
from loadtest.workloads import WORKLOADS

GET1K = WORKLOADS["get1k"]


def measured(
    cost_us: float, tree: float = 0.99, other: float = 0.0, errors: dict[str, int] | None = None
) -> Round:
    """A round of 10,000 requests in 4 seconds at that cost."""
    return Round(
        load=LoadResult(10_000, 10_240_000, 4.0, 1.0, 2.0, 9.0, errors or {}),
        cpu=CpuUse(cost_us * 10_000 / 1e6, tree, other),
        idle=Memory(50 << 20, 40 << 20),
        connection_bytes=2048.0,
    )


def test_a_round_costs_cpu_time_over_requests() -> None:
    one = measured(300)
    assert one.cpu_us == pytest.approx(300)
    assert one.per_second == 2500


def test_a_round_without_an_answer_has_no_finite_cost() -> None:
    one = measured(300)
    assert replace(one, load=replace(one.load, requests=0)).cpu_us == float("inf")


def test_a_summary_is_the_median_of_each_figure() -> None:
    summary = summarise([measured(310), measured(900), measured(300)])
    assert summary.cpu_us == pytest.approx(310)
    assert (summary.cpu_us_lowest, summary.cpu_us_highest) == pytest.approx((300, 900))
    assert summary.client_us == pytest.approx(100)
    assert summary.errors == 0
    assert summary.warnings == ()


@pytest.mark.parametrize(
    ("one", "warning"),
    [
        (measured(300, tree=0.80), "core only 80.0% busy"),
        (measured(300, tree=0.88, other=0.12), "others took 12% of the core"),
        (measured(300, errors={"status 502": 500, "no answer": 1}), "5% of the requests failed"),
    ],
)
def test_a_doubtful_round_is_marked(one: Round, warning: str) -> None:
    summary = summarise([one])
    assert summary.warnings == (warning,)
    assert warning in table({"caddy": summary})


def test_a_few_errors_are_shown_and_not_held_against_the_figures() -> None:
    summary = summarise([measured(300, errors={"status 502": 3, "no answer": 1})])
    assert summary.errors == 4
    assert summary.warnings == ()
    assert table({"caddy": summary}).endswith("4 !")


def test_the_table_begins_with_the_cheapest() -> None:
    summaries = {"slow": summarise([measured(900)]), "quick": summarise([measured(30)])}
    names = [line.split()[0] for line in table(summaries).splitlines()]
    assert names == ["peer", "quick", "slow"]


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert aligned([("a", "b", "c"), ("long", "123", "")]) == "a       b  c\nlong  123"


def test_ratios_are_to_the_rivals_that_were_measured() -> None:
    summaries = {"spooky": summarise([measured(300)]), "caddy": summarise([measured(100)])}
    assert ratios(summaries) == {"caddy": pytest.approx(3.0)}
    assert ratios({"caddy": summarise([measured(100)])}) == {}


@pytest.mark.parametrize(
    ("spooky", "word"),
    [(measured(330), "target MET"), (measured(349), "target MISSED")],
)
def test_the_target_is_a_share_of_hypercorn(spooky: Round, word: str) -> None:
    summaries = {"spooky": summarise([spooky]), "hypercorn": summarise([measured(630)])}
    line = verdict(summaries, GET1K)
    assert line is not None
    assert line.startswith(word)
    assert "in doubt" not in line


def test_a_target_met_with_a_warning_is_in_doubt() -> None:
    idle = summarise([measured(100, tree=0.5)])
    line = verdict({"spooky": idle, "hypercorn": summarise([measured(630)])}, GET1K)
    assert line is not None
    assert "in doubt: spooky: core only 50.0% busy" in line


def test_the_target_is_for_one_workload_and_needs_both_peers() -> None:
    both = {name: summarise([measured(300)]) for name in ("spooky", "hypercorn")}
    assert verdict(both, WORKLOADS["single"]) is None
    assert verdict(both, GET1K.shaped(5, None)) is None
    assert verdict({"spooky": both["spooky"]}, GET1K) is None


def test_the_document_is_json_and_has_every_round() -> None:
    rounds = {"caddy": [measured(110), measured(120)]}
    summaries = {"caddy": summarise(rounds["caddy"])}
    document = json.loads(json.dumps(as_json({"seconds": 4}, rounds, summaries, GET1K)))
    caddy = document["peers"]["caddy"]
    assert [r["cpu_us"] for r in caddy["rounds"]] == pytest.approx([110, 120])
    assert caddy["median"]["cpu_us"] == pytest.approx(115)
    assert document["seconds"] == 4
    assert document["workload"]["name"] == "get1k"
