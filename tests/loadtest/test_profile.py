"""The table of a profile: shares of all samples, from the worker's loop on."""

from loadtest.profile import table

ABOVE = "main (spooky/cli.py:1);run (spooky/worker/main.py:58)"
STACKS = [
    f"{ABOVE};receive (a.py:1);parse (b.py:2) 30",
    f"{ABOVE};receive (a.py:1) 10",
    f"{ABOVE};send (a.py:9);parse (b.py:2) 40",
    f"{ABOVE};send (a.py:9);send (a.py:9) 20",
]


def test_shares_are_those_of_a_function_and_of_all_that_it_calls() -> None:
    own, whole = table(STACKS, 2).split("\n\n")
    assert own.splitlines()[1:] == [
        " 70.0%  70.0%  parse (b.py:2)",
        " 20.0%  60.0%  send (a.py:9)",
    ]
    assert whole.splitlines()[1:] == [
        "  0.0% 100.0%  run (spooky/worker/main.py:58)",
        " 70.0%  70.0%  parse (b.py:2)",
    ]
