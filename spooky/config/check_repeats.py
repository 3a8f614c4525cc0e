"""What must hold between the keys of an upstream's `retries` and `hedging`.

Pure, and a part of `check.py`: it looks at the Config alone.
"""

from collections.abc import Iterator

from spooky.config.document import Finding, Places, key_of_upstream
from spooky.config.model import Upstream


def check_repeats(upstream: Upstream, known: Places) -> Iterator[Finding]:
    """Find what contradicts itself."""
    backoff = upstream.retries.backoff
    key = f"{key_of_upstream(upstream.name)}.retries.backoff"
    if known.is_sound(f"{key}.initial", f"{key}.max") and backoff.max < backoff.initial:
        yield Finding(f"{key}.max", "is shorter than initial")
    if upstream.hedging is not None and upstream.retries.attempts == 1:
        yield Finding(
            f"{key_of_upstream(upstream.name)}.hedging",
            "is a second attempt, and retries.attempts is 1; to hedge and repeat nothing else, "
            "write retries: {attempts: 2, on: []}",
        )


def repeats_notices(upstream: Upstream) -> Iterator[Finding]:
    """Find what an operator may not expect of an upstream that is in order."""
    retries, key = upstream.retries, f"{key_of_upstream(upstream.name)}.retries"
    if retries.attempts == 1:
        given = {"statuses": bool(retries.statuses), "backoff": retries.backoff.initial > 0}
        for name, is_there in given.items():
            if is_there:
                yield Finding(f"{key}.{name}", "has no effect: attempts is 1, nothing is repeated")
    if upstream.hedging is not None and len(upstream.backends) < 2:
        text = "has no effect: there is no other backend"
        yield Finding(f"{key_of_upstream(upstream.name)}.hedging", text)
