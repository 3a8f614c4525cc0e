import re
from ipaddress import ip_network
from pathlib import Path

import pytest

from spooky.config.dump import dump
from spooky.config.load import load_text
from spooky.config.rate_limits import LEAKY_BUCKET, SLIDING_WINDOW, Rate, RateLimit
from tests.config.broken import LISTEN, UPSTREAM

DOCS = Path(__file__).parents[2] / "docs" / "rate-limits.md"


def limits_of(text: str) -> tuple[RateLimit, ...]:
    return load_text(f"{LISTEN}{UPSTREAM}rate_limits: [{text}]\n").config.rate_limits


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("{name: a, rate: 100/s}", RateLimit("a", Rate(100, "s"))),
        (
            "{name: a, rate: 100/s, scope: worker, ipv6_prefix: 56}",
            RateLimit("a", Rate(100, "s"), scope="worker", ipv6_prefix=56),
        ),
        (
            "{name: a, rate: 5/m, key: header:X-Api-Key, headers: always, dry_run: true}",
            RateLimit("a", Rate(5, "m"), "header:X-Api-Key", headers="always", dry_run=True),
        ),
        (
            "{name: a, rate: 1/d, algorithm: leaky-bucket, burst: 9, delay: off, scope: worker}",
            RateLimit(
                "a", Rate(1, "d"), algorithm=LEAKY_BUCKET, burst=9, delay=None, scope="worker"
            ),
        ),
        (
            "{name: a, rate: 9/h, algorithm: sliding-window, path_prefix: /x, exempt: ['::1']}",
            RateLimit(
                "a",
                Rate(9, "h"),
                algorithm=SLIDING_WINDOW,
                path_prefix="/x",
                exempt=(ip_network("::1/128"),),
            ),
        ),
    ],
)
def test_what_is_written_is_what_is_read(text: str, limit: RateLimit) -> None:
    assert limits_of(text) == (limit,)
    config = load_text(f"{LISTEN}{UPSTREAM}rate_limits: [{text}]\n").config
    assert load_text(dump(config)).config.rate_limits == (limit,)


def test_the_example_of_the_docs_is_in_order() -> None:
    found = re.search(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert found is not None
    config = load_text(LISTEN + found[1]).config
    assert [one.name for one in config.rate_limits] == ["clients", "login"]
    (api,) = config.upstream
    assert [one.name for one in api.rate_limits] == ["keys", "api", "each"]
    assert [one.name for one in api.routes[1].rate_limits] == ["search"]


@pytest.mark.parametrize(
    ("rate", "interval_ns"),
    [(Rate(1, "s"), 10**9), (Rate(3, "s"), 333_333_334), (Rate(30, "m"), 2 * 10**9)],
)
def test_a_rate_is_never_exceeded_by_rounding(rate: Rate, interval_ns: int) -> None:
    assert rate.interval_ns == interval_ns
