import pytest

from loadtest.codecs import CODECS, COSTS, Codec, cost_of_gets, main


@pytest.mark.parametrize("what", COSTS)
@pytest.mark.parametrize("name", CODECS)
def test_each_codec_does_each_work(name: str, what: str) -> None:
    assert COSTS[what](CODECS[name]) > 0


def test_a_codec_hears_each_answer() -> None:
    heard: list[int] = []

    def make() -> Codec:
        codec = CODECS["lean"]()
        feed = codec.feed

        def note(octets: bytes) -> None:
            heard.append(len(octets))
            feed(octets)

        codec.feed = note  # type: ignore[method-assign]
        return codec

    cost_of_gets(make, 10)
    assert len(heard) == 11
    assert min(heard[1:]) > 1024


def test_ours_costs_at_most_half_of_the_library() -> None:
    def cost(name: str) -> float:
        return min(cost_of_gets(CODECS[name], 200) for _ in range(3))

    assert cost("lean") < cost("h2") / 2


def test_the_table_names_each_codec(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rounds", "1"]) == 0
    table = capsys.readouterr().out
    assert all(f"\n{name} " in table for name in CODECS)
