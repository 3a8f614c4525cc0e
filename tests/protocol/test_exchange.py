"""The table of an exchange's life, walked whole."""

import itertools

import pytest

from spooky.protocol.exchange import TRANSITIONS, State, Step, next_state

LIFE = """
    NEW        ROUTE  WAITING
    NEW        END    DONE
    WAITING    STREAM SENT
    WAITING    RETRY  WAITING
    WAITING    END    DONE
    SENT       HEAD   RESPONDING
    SENT       RETRY  WAITING
    SENT       END    DONE
    RESPONDING END    DONE
"""
ALLOWED = {
    (State[state], Step[step]): State[after]
    for state, step, after in (line.split() for line in LIFE.strip().splitlines())
}


@pytest.mark.parametrize(("state", "step"), [*itertools.product(State, Step)])
def test_every_step_in_every_state(state: State, step: Step) -> None:
    if (state, step) in ALLOWED:
        assert next_state(state, step) is ALLOWED[state, step]
    else:
        with pytest.raises(KeyError):
            next_state(state, step)


def test_an_exchange_that_is_over_stays_so_and_every_other_can_end() -> None:
    assert not any(state is State.DONE for state, _ in TRANSITIONS)
    for state in set(State) - {State.DONE}:
        assert next_state(state, Step.END) is State.DONE


def test_a_response_that_has_begun_is_never_retried() -> None:
    assert (State.RESPONDING, Step.RETRY) not in TRANSITIONS
