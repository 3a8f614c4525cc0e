"""Gates: who is asked, in which order, and who hears of the end."""

from dataclasses import dataclass, field
from typing import Any, cast

from spooky.errors import Kind
from spooky.worker.call import Call, Held, Hold, Refusal, Verdict, leave_gates, pass_gates

NO = Refusal(Kind.OVERLOADED, "too many")


@dataclass
class Scripted:
    """A gate that gives the same answer each time."""

    name: str
    verdict: Verdict
    log: list[str] = field(default_factory=list)

    def enter(self, call: Call, held: Held) -> Verdict:
        self.log.append(f"enter {self.name}")
        return self.verdict

    def leave(self, call: Call) -> None:
        self.log.append(f"leave {self.name}")


def a_call() -> Call:
    nothing = cast("Any", None)
    return Call(nothing, "localhost", nothing, b"", nothing)


def test_gates_are_asked_in_order_and_left_in_reverse() -> None:
    log: list[str] = []
    gates = [Scripted("a", None, log), Scripted("b", None, log)]
    call = a_call()
    assert pass_gates(gates, call, cast("Any", None)) is None
    leave_gates(call)
    leave_gates(call)
    assert log == ["enter a", "enter b", "leave b", "leave a"]


def test_a_gate_that_refuses_is_not_left_and_none_is_asked_after_it() -> None:
    log: list[str] = []
    gates = [Scripted("a", None, log), Scripted("b", NO, log), Scripted("c", None, log)]
    call = a_call()
    assert pass_gates(gates, call, cast("Any", None)) is NO
    leave_gates(call)
    assert log == ["enter a", "enter b", "leave a"]


def test_a_gate_that_holds_is_not_asked_again() -> None:
    log: list[str] = []
    gates = [Scripted("a", Hold.HELD, log), Scripted("b", None, log)]
    call = a_call()
    assert pass_gates(gates, call, cast("Any", None)) is Hold.HELD
    assert pass_gates(gates, call, cast("Any", None)) is None
    leave_gates(call)
    assert log == ["enter a", "enter b", "leave b", "leave a"]
