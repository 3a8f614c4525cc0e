"""Which limits the requests of an upstream, and of a route, have to pass."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from spooky.config.rate_limits import Rate, RateLimit
from spooky.config.routes import Route
from spooky.worker.call import Gate, pass_gates
from tests.worker.rate_probe import call, configuration, limited


def test_a_limit_of_a_route_is_asked_with_those_of_its_upstream() -> None:
    loop = asyncio.new_event_loop()
    route = Route(path_prefix="/one", rate_limits=(RateLimit("route", Rate(1, "h"), key="all"),))
    config = configuration(1, rate_limits=(RateLimit("all", Rate(3, "h"), key="all"),))
    one, two = config.upstream
    config = replace(config, upstream=(replace(one, routes=(route,)), two))
    groups, rates = limited(config, loop)
    gates = rates.gates_of(groups[0], route)

    def passes(gates: Sequence[Gate]) -> bool:
        return pass_gates(gates, call(groups[0]), cast("Any", None)) is None

    assert [passes(gates) for _ in range(4)] == [True, False, False, False]
    # The refused ones used nothing of the other limit, and another route has that one alone.
    assert [passes(groups[0].gates) for _ in range(3)] == [True, True, False]
    loop.close()
