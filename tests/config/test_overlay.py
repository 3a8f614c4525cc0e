"""What operators changed of the backends, laid over what a file says."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from spooky.config.model import Backend, Config, Route, Upstream
from spooky.config.overlay import Entry, Overlay, lay_over, read, write

ONE, TWO, THREE = (Backend(f"b{port}", "10.0.0.1", port) for port in (1, 2, 3))
RENAMED = Backend("other", "10.0.0.1", 2)


def config(*backends: Backend) -> Config:
    return Config((), (Upstream("api", (Route(),), backends), Upstream("web", (), (ONE,))))


def backends(overlay: Overlay, *of_file: Backend) -> tuple[Backend, ...]:
    changed = lay_over(overlay, config(*of_file))
    assert changed.upstream[1].backends == (ONE,), "the other upstream stays as it is"
    return changed.upstream[0].backends


def test_nothing_changes_nothing() -> None:
    as_it_was = config(ONE)
    assert lay_over(Overlay(), as_it_was) is as_it_was
    assert (write(Overlay()), read("")) == ("", Overlay())


def test_what_was_added_is_there_once() -> None:
    added = Overlay().with_added(Entry("api", TWO))
    assert backends(added, ONE) == (ONE, TWO)
    assert backends(added, ONE, TWO) == (ONE, TWO)
    assert backends(added, ONE, RENAMED) == (ONE, RENAMED), "the file has the last word"
    assert backends(added, ONE, Backend("b2", "10.0.0.9", 9))[1:] == (Backend("b2", "10.0.0.9", 9),)


def test_what_was_removed_is_gone_as_long_as_the_file_has_it() -> None:
    removed = Overlay().with_removed(Entry("api", TWO))
    assert backends(removed, ONE, TWO) == (ONE,)
    assert backends(removed, ONE, THREE) == (ONE, THREE)


def test_no_upstream_loses_its_last_backend() -> None:
    assert backends(Overlay().with_removed(Entry("api", ONE)), ONE) == (ONE,)


def test_to_add_what_was_removed_takes_that_back_and_the_other_way_round() -> None:
    entry = Entry("api", TWO)
    assert Overlay().with_removed(entry).with_added(entry) == Overlay()
    assert Overlay().with_added(entry).with_removed(entry) == Overlay()


def test_what_was_removed_may_be_replaced() -> None:
    """By another backend of its name, or by the same address with another weight or name."""
    removed = Overlay().with_removed(Entry("api", TWO))
    moved = Backend("b2", "10.0.0.9", 9)
    assert backends(removed.with_added(Entry("api", moved)), ONE, TWO) == (ONE, moved)
    for changed in (replace(TWO, weight=7), RENAMED):
        replaced = removed.with_added(Entry("api", changed))
        assert backends(replaced, ONE, TWO) == (ONE, changed)
        assert replaced.was_removed(Entry("api", changed)) == TWO
        assert backends(replaced.with_removed(Entry("api", changed)), ONE, TWO) == (ONE,)
    assert removed.was_removed(Entry("web", TWO)) is None


def test_a_backend_by_tls_is_for_upstreams_that_can_have_one() -> None:
    secure = replace(TWO, tls=True)
    added = Overlay().with_added(Entry("api", secure))
    for names, found in ((None, (ONE, secure)), (["api"], (ONE, secure)), (["web"], (ONE,))):
        assert lay_over(added, config(ONE), names).upstream[0].backends == found


def test_what_a_file_speaks_of_is_forgotten_for_it_and_younger_ones() -> None:
    both = Overlay().with_added(Entry("api", TWO)).with_removed(Entry("api", ONE))
    assert both.once_served(config(ONE, THREE), 5) == both, "the file does not speak of it"
    forgotten = both.once_served(config(TWO, THREE), 5)
    older, same, younger = (forgotten.as_of(generation) for generation in (4, 5, 6))
    assert backends(older, ONE, THREE) == (THREE, TWO)
    assert same == younger == Overlay()
    assert forgotten.once_served(config(TWO), 5) == forgotten
    assert forgotten.once_served(config(TWO), 6) == Overlay()
    again = forgotten.with_removed(Entry("api", TWO))
    assert backends(again.as_of(5), TWO, THREE) == (THREE,), "what is forgotten is not taken back"


def test_a_name_that_the_file_has_ends_an_addition() -> None:
    added = Overlay().with_added(Entry("api", TWO))
    assert added.once_served(config(ONE, Backend("b2", "10.0.0.9", 9)), 5).as_of(5) == Overlay()
    replaced = Overlay().with_removed(Entry("api", TWO)).with_added(Entry("api", RENAMED))
    assert replaced.once_served(config(ONE, TWO), 5) == replaced


def test_an_upstream_that_is_gone_is_no_fault() -> None:
    assert backends(Overlay().with_added(Entry("gone", TWO)), ONE) == (ONE,)


ENTRIES = st.builds(
    Entry,
    st.sampled_from(["api", "web"]),
    st.builds(
        Backend,
        st.text(max_size=5),
        st.sampled_from(["a.test", "::1"]),
        st.integers(1, 9),
        st.booleans(),
        st.integers(0, 1000),
    ),
    st.integers(0, 9),
)


@given(st.lists(ENTRIES).map(tuple), st.lists(ENTRIES).map(tuple))
def test_what_is_written_reads_back(added: tuple[Entry, ...], removed: tuple[Entry, ...]) -> None:
    overlay = Overlay(added, removed)
    assert read(write(overlay)) == overlay
