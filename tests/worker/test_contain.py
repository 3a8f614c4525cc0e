"""A fault in one exchange goes to that exchange."""

from spooky.worker.contain import contained


class One:
    def __init__(self) -> None:
        self.faults: list[Exception] = []
        self.done: list[int] = []

    def fault(self, error: Exception) -> None:
        self.faults.append(error)

    @contained
    def act(self, number: int, *, fail: bool = False) -> None:
        """Act."""
        if fail:
            raise KeyError(number)
        self.done.append(number)


def test_a_fault_is_told_and_not_raised() -> None:
    one = One()
    one.act(1)
    one.act(2, fail=True)
    one.act(3)
    assert one.done == [1, 3]
    assert [str(error) for error in one.faults] == ["2"]
    assert One.act.__doc__ == "Act."
