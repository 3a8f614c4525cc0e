from dataclasses import dataclass, field

from spooky.policy.census import Census, Fitness, Place
from spooky.policy.eligibility import Rules


@dataclass
class Row:
    """A row that counts how often it was read in full."""

    cells: list[int] = field(default_factory=lambda: [0])
    came_back_ms: int = -(10**9)
    reads: int = 0

    def deciding(self) -> list[int]:
        return list(self.cells)

    def weight_of(self, configured: int) -> int:
        return configured + 1

    def fitness(self, now_ms: int) -> Fitness:
        self.reads += 1
        well_for = (now_ms - self.came_back_ms) / 1000
        return False, False, False, bool(self.cells[0]), False, 1.0, well_for


def census(*rows: Row, window: float = 0.0) -> Census:
    return Census([Place(99, 0, "", row) for row in rows], Rules(slow_start=window))


def test_it_is_taken_when_something_has_changed() -> None:
    rows = Row(), Row()
    taken = census(*rows)
    first = taken.take(0)
    assert first is not None
    assert first.weights == (100, 100)
    assert taken.take(10**6) is None
    assert rows[0].reads == 1
    rows[0].cells[0] = 1
    second = taken.take(10**6)
    assert second is not None
    assert second.weights == (0, 100)
    assert taken.take(10**6) is None


def test_it_is_taken_when_time_brings_a_change() -> None:
    taken = census(Row(came_back_ms=0), Row(), window=20.0)
    found = {now: taken.take(now) for now in range(0, 25_000, 250)}
    weights = [one.weights[0] for one in found.values() if one is not None]
    assert weights == list(range(5, 105, 5))
    assert found[1000] is not None
    assert found[1250] is None
