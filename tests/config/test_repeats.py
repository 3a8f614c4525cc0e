"""The keys `retries`, `hedging` and `timeouts.deadline_header`."""

import pytest

from spooky.config.dump import dump
from spooky.config.load import load_text
from spooky.config.model import Upstream
from spooky.config.repeat_tables import CAUSES
from spooky.config.repeats import Backoff, Budget, HedgeDelay, Hedging, Retries
from spooky.errors import ConfigError
from spooky.policy.retry import Cause, RetryPolicy
from spooky.worker.repetition import make_repetition
from tests.config.broken import with_upstream


def _read(text: str) -> Upstream:
    return load_text(with_upstream(text), "spooky.yaml").config.upstream[0]


def _faults(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        _read(text)
    return str(caught.value)


def test_everything_is_read() -> None:
    upstream = _read(
        "retries: {attempts: 4, per_try_timeout: 2s, on: [reset, per-try-timeout], "
        "statuses: [502, 503], backoff: {initial: 25ms, max: 250ms}, "
        "budget: {ratio: 0.05, minimum: 2.5}}\n"
        "hedging: {delay: p99.9}\n"
        "timeouts: {deadline_header: X-Deadline}\n"
    )
    assert upstream.retries == Retries(
        attempts=4,
        per_try_timeout=2.0,
        on=("reset", "per-try-timeout"),
        statuses=(502, 503),
        backoff=Backoff(0.025, 0.25),
        budget=Budget(0.05, 2.5),
    )
    assert upstream.hedging == Hedging(HedgeDelay(percentile=99.9))
    assert upstream.timeouts.deadline_header == "x-deadline"


@pytest.mark.parametrize(
    ("delay", "expected"),
    [
        ("100ms", HedgeDelay(seconds=0.1)),
        ("p95", HedgeDelay(percentile=95.0)),
        ("p1", HedgeDelay(percentile=1.0)),
    ],
)
def test_a_hedge_waits_for_a_time_or_a_percentile(delay: str, expected: HedgeDelay) -> None:
    assert _read(f"hedging: {{delay: {delay}}}").hedging == Hedging(expected)


def test_what_is_written_out_reads_back() -> None:
    text = (
        "retries: {budget: {ratio: 0.123456, minimum: 7}}\nhedging: {delay: p99.5}\n"
        "timeouts: {deadline_header: x-deadline}\n"
    )
    config = load_text(with_upstream(text), "spooky.yaml").config
    assert load_text(dump(config), "spooky.yaml").config == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("retries: {attempts: 0}", "upstream.api.retries.attempts: expected 1..16, got 0"),
        ("retries: {on: [timeout]}", "retries.on[0]: expected connect-failure, refused-stream"),
        ("retries: {statuses: [200]}", "retries.statuses[0]: expected 400..599, got 200"),
        ("retries: {budget: {ratio: 20%}}", "budget.ratio: expected a number in 0..10, got"),
        ("retries: {budget: {ratio: 1e1}}", "budget.ratio: expected a number in 0..10, got"),
        ('retries: {budget: {minimum: "1"}}', "budget.minimum: expected a number in 0..1000000"),
        ("retries: {backoff: {initial: 2s}}", "retries.backoff.max: is shorter than initial"),
        (
            "retries: {attempts: 1}\nhedging: {delay: 1s}",
            "upstream.api.hedging: is a second attempt, and retries.attempts is 1",
        ),
        ("hedging: {}", "hedging.delay: missing; write a duration such as 100ms, or p95"),
        ("hedging: {delay: p100}", "hedging.delay: expected"),
        ("hedging: {delay: 0}", "hedging.delay: expected 1ms..1h or a percentile such as p95"),
        ("timeouts: {deadline_header: Host}", "deadline_header: host has a meaning of its own"),
        ("timeouts: {deadline_header: 'a b'}", "deadline_header: expected the name of a field"),
    ],
)
def test_what_is_wrong_is_told_where_it_is(text: str, message: str) -> None:
    assert message in _faults(text)


def test_a_hedge_without_another_backend_is_told_of() -> None:
    loaded = load_text(with_upstream("hedging: {delay: 1s}"), "spooky.yaml")
    assert [str(notice) for notice in loaded.notices if "hedging" in str(notice)] != []


@pytest.mark.parametrize("key", ["statuses: [503]", "backoff: {initial: 1ms}"])
def test_what_says_how_to_repeat_where_nothing_is_is_told_of(key: str) -> None:
    def notices(attempts: int) -> list[str]:
        text = f"retries: {{attempts: {attempts}, {key}}}"
        loaded = load_text(with_upstream(text), "spooky.yaml")
        return [str(notice) for notice in loaded.notices if "has no effect" in str(notice)]

    assert notices(2) == []
    (notice,) = notices(1)
    assert notice.startswith(f"upstream.api.retries.{key.partition(':')[0]}: has no effect")


def test_the_defaults_are_those_of_the_policy() -> None:
    upstream = _read("")
    policy = make_repetition(upstream, 1, 0.0, lambda: 0.5).policy
    assert (policy.attempts, policy.on, policy.statuses, policy.per_try_timeout) == (
        RetryPolicy().attempts,
        RetryPolicy().on,
        RetryPolicy().statuses,
        RetryPolicy().per_try_timeout,
    )
    assert {*CAUSES} == {cause.value for cause in Cause if cause is not Cause.STATUS}
