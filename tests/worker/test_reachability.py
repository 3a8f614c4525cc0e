"""What the log hears of a backend that cannot be reached: each change once, a flood never."""

import pytest

from spooky.worker.reachability import MOST_REASONS, REPEAT_S, Reachability

Step = tuple[float, str, str]
"""The time, the reason of a failure (empty: it was reached) and what is told."""

REFUSED = "backend api/b1 10.0.0.1:8080: cannot connect: refused"
EXPIRED = "backend api/b1 10.0.0.1:8080: cannot connect: expired"
AGAIN = "backend api/b1 10.0.0.1:8080: reachable again"

STORIES: dict[str, list[Step]] = {
    "reachable from the beginning": [(0, "", ""), (1, "", "")],
    "down": [(0, "refused", REFUSED), (1, "refused", ""), (1000, "refused", "")],
    "up again": [(0, "refused", REFUSED), (1, "", AGAIN), (2, "", "")],
    "another reason": [(0, "refused", REFUSED), (1, "expired", EXPIRED), (2, "expired", "")],
    "up and down": [
        (0, "refused", REFUSED),
        (1, "", AGAIN),
        (2, "refused", ""),
        (3, "", ""),
        (4, "refused", ""),
        (REPEAT_S, "refused", REFUSED),
        (REPEAT_S + 1, "", AGAIN),
    ],
    "two reasons in turn": [
        (0, "refused", REFUSED),
        (1, "expired", EXPIRED),
        (2, "refused", ""),
        (3, "expired", ""),
        (REPEAT_S, "refused", REFUSED),
        (REPEAT_S + 0.5, "expired", ""),
    ],
    "down again after long": [
        (0, "refused", REFUSED),
        (1, "", AGAIN),
        (REPEAT_S + 1, "refused", REFUSED),
    ],
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_what_is_told(story: list[Step]) -> None:
    backend = Reachability("api/b1 10.0.0.1:8080")
    for now, reason, text in story:
        assert (backend.failed(reason, now) if reason else backend.connected()) == text, now


def test_new_words_each_time_are_no_flood() -> None:
    backend = Reachability("b")
    told = [backend.failed(f"reason {number}", number / 100) for number in range(1000)]
    assert len([text for text in told if text]) == MOST_REASONS
    assert backend.failed("later", REPEAT_S) == "backend b: cannot connect: later"


def test_a_breach_is_told_once_for_each_reason_and_not_without_end() -> None:
    reach = Reachability("api/b1 10.0.0.1:8080")
    told = "backend api/b1 10.0.0.1:8080: its connection was ended: a flood"
    assert [reach.breached("a flood", now) for now in (0, 1, REPEAT_S)] == [told, "", told]
    more = [reach.breached(f"reason {number}", REPEAT_S + 1) for number in range(10)]
    assert sum(map(bool, more)) == MOST_REASONS - 1
