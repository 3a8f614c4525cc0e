"""The life of one exchange, a request and its response, as a table.

    NEW --route--> WAITING --stream--> SENT --head--> RESPONDING --end--> DONE
                      ^                  |
                      +------retry-------+

An exchange may end from any state. What is not in the table is a fault of ours, and raises.
"""

from enum import IntEnum


class State(IntEnum):
    """Where an exchange is."""

    NEW = 0
    """The request's head is here, and nothing is decided."""
    WAITING = 1
    """A backend is chosen; its connection has no stream for us yet."""
    SENT = 2
    """The request's head was sent to the backend."""
    RESPONDING = 3
    """The response's head was sent to the client."""
    DONE = 4


class Step(IntEnum):
    """What moves an exchange on."""

    ROUTE = 0
    STREAM = 1
    HEAD = 2
    RETRY = 3
    END = 4


TRANSITIONS: dict[tuple[int, int], State] = {
    (State.NEW, Step.ROUTE): State.WAITING,
    (State.WAITING, Step.STREAM): State.SENT,
    (State.WAITING, Step.RETRY): State.WAITING,
    (State.SENT, Step.RETRY): State.WAITING,
    (State.SENT, Step.HEAD): State.RESPONDING,
    (State.NEW, Step.END): State.DONE,
    (State.WAITING, Step.END): State.DONE,
    (State.SENT, Step.END): State.DONE,
    (State.RESPONDING, Step.END): State.DONE,
}


def next_state(state: State, step: Step) -> State:
    """Return the state after `step`.

    Raises:
        KeyError: the step is not allowed in this state.
    """
    return TRANSITIONS[state, step]
