import pytest

from loadtest.rates import measure
from spooky.config.rate_limits import SLIDING_WINDOW, TOKEN_BUCKET


@pytest.mark.parametrize("algorithm", [TOKEN_BUCKET, SLIDING_WINDOW])
def test_many_slots_cost_the_key_of_one_client_little(algorithm: str) -> None:
    assert measure(algorithm, 256)[0] < 6 * measure(algorithm, 2)[0] + 5
