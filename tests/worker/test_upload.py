"""An upload on its way: in order, bounded, credited exactly, and whole for another backend."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky.protocol.messages import Headers
from spooky.worker.upload import JOINED_BYTES, Upload

STREAM = 8
LIMIT = 100


@dataclass
class Backend:
    """A stream to a backend that takes as much as it has room for."""

    room: int = 1_000_000
    taken: bytearray = field(default_factory=bytearray)
    ended: bool = False
    trailers: Headers | None = None

    def send_body(self, data: bytes, *, end: bool) -> None:
        assert not self.ended, "sent after the end"
        assert len(data) <= self.room, "sent more than there is room for"
        self.room -= len(data)
        self.taken += data
        self.ended = end

    def send_trailers(self, headers: Headers) -> None:
        assert not self.ended, "sent after the end"
        self.trailers, self.ended = headers, True

    def writable(self) -> int:
        return self.room


class Client:
    """The client's engine, which counts the credit that comes back."""

    def __init__(self) -> None:
        self.credited = 0

    def consume(self, stream: int, count: int) -> None:
        assert (stream, count > 0) == (STREAM, True)
        self.credited += count


def begin(*, empty: bool = False, limit: int = LIMIT) -> tuple[Upload, Client]:
    client = Client()
    return Upload(client, STREAM, limit, empty=empty), client


def test_content_goes_through_and_is_credited_as_it_goes() -> None:
    upload, client = begin()
    backend = Backend()
    upload.attach(backend)
    upload.offer(b"abc", 3, end=False)
    assert (bytes(backend.taken), client.credited, upload.finished) == (b"abc", 3, False)
    upload.offer(b"de", 2, end=True)
    assert (bytes(backend.taken), client.credited, backend.ended) == (b"abcde", 5, True)
    assert (upload.finished, upload.complete, upload.received, upload.sent) == (True, True, 5, 5)


def test_nothing_is_credited_before_there_is_a_backend() -> None:
    upload, client = begin()
    upload.offer(b"abc", 3, end=True)
    assert (client.credited, upload.is_waiting, upload.finished) == (0, True, False)
    backend = Backend()
    upload.attach(backend)
    assert (bytes(backend.taken), backend.ended, client.credited) == (b"abc", True, 3)
    assert not upload.is_waiting


def test_a_backend_with_little_room_gets_little() -> None:
    upload, client = begin()
    backend = Backend(room=2)
    upload.attach(backend)
    upload.offer(b"abcde", 5, end=True)
    assert (bytes(backend.taken), client.credited, backend.ended) == (b"ab", 2, False)
    backend.room = 3
    upload.pump()
    assert (bytes(backend.taken), client.credited, backend.ended) == (b"abcde", 5, True)


def test_the_end_needs_no_room() -> None:
    upload, _ = begin()
    backend = Backend(room=3)
    upload.attach(backend)
    upload.offer(b"abc", 3, end=False)
    upload.offer(b"", 0, end=True)
    assert (backend.ended, upload.finished) == (True, True)


def test_trailers_come_last_and_end_it() -> None:
    upload, _ = begin()
    backend = Backend(room=1)
    upload.attach(backend)
    upload.offer(b"ab", 2, end=False)
    upload.offer_trailers([(b"x", b"y")])
    assert (backend.trailers, upload.finished, upload.complete) == (None, False, True)
    backend.room = 9
    upload.pump()
    assert (backend.trailers, backend.ended, upload.finished) == ([(b"x", b"y")], True, True)


def test_a_request_without_content_sends_nothing_at_all() -> None:
    upload, client = begin(empty=True)
    backend = Backend()
    upload.attach(backend)
    assert (upload.finished, upload.complete, upload.replayable) == (True, True, True)
    upload.detach()
    upload.attach(backend)
    assert (bytes(backend.taken), backend.ended, client.credited) == (b"", False, 0)


def test_another_backend_gets_it_all_again_and_the_client_no_credit_twice() -> None:
    upload, client = begin()
    first = Backend(room=4)
    upload.attach(first)
    upload.offer(b"abc", 3, end=False)
    upload.offer(b"def", 3, end=False)
    upload.detach()
    upload.offer_trailers([(b"t", b"1")])
    second = Backend()
    upload.attach(second)
    assert (bytes(first.taken), first.ended) == (b"abcd", False)
    assert (bytes(second.taken), second.trailers) == (b"abcdef", [(b"t", b"1")])
    assert client.credited == 6
    upload.detach()
    third = Backend(room=2)
    upload.attach(third)
    assert (bytes(third.taken), upload.finished) == (b"ab", False)
    third.room = 100
    upload.pump()
    assert (bytes(third.taken), third.ended, client.credited) == (b"abcdef", True, 6)


@pytest.mark.parametrize(
    ("sizes", "replayable"), [([100], True), ([101], False), ([60, 40], True), ([60, 41], False)]
)
def test_no_more_than_the_limit_is_kept(sizes: list[int], replayable: bool) -> None:
    upload, _ = begin()
    upload.attach(Backend())
    for size in sizes:
        upload.offer(b"x" * size, size, end=False)
    assert upload.replayable is replayable
    assert sum(map(len, upload._kept)) == (sum(sizes) if replayable else 0)


def test_what_is_sent_again_counts_once_against_the_limit() -> None:
    upload, _ = begin()
    upload.attach(Backend())
    upload.offer(b"x" * 60, 60, end=False)
    for _ in range(3):
        upload.detach()
        upload.attach(Backend())
        assert (upload.replayable, sum(map(len, upload._kept))) == (True, 60)


def test_nothing_is_kept_once_the_response_has_begun() -> None:
    upload, _ = begin()
    upload.attach(Backend())
    upload.offer(b"abc", 3, end=False)
    upload.release()
    upload.offer(b"def", 3, end=False)
    assert (upload.replayable, upload._kept) == (False, [])


def test_settled_it_sends_and_credits_no_more() -> None:
    upload, client = begin()
    backend = Backend(room=1)
    upload.attach(backend)
    upload.offer(b"abc", 3, end=False)
    upload.settle()
    backend.room = 10
    upload.pump()
    assert (bytes(backend.taken), client.credited, upload.is_waiting) == (b"a", 1, False)


def test_tiny_pieces_take_few_objects_wherever_they_are() -> None:
    upload, client = begin(limit=100_000)
    content = bytes(number % 251 for number in range(20_000))
    for at in range(0, len(content), 2):
        upload.offer(content[at : at + 2], 2, end=False)
    few = len(content) // JOINED_BYTES + 1
    assert len(upload._waiting) == few
    assert client.credited == 0
    first = Backend(room=0)
    upload.attach(first)
    for _ in range(0, len(content), 2):
        first.room = 2
        upload.pump()
    assert (bytes(first.taken), client.credited) == (content, len(content))
    assert len(upload._kept) == few
    upload.detach()
    assert len(upload._waiting) == few
    second = Backend()
    upload.attach(second)
    upload.offer(b"", 0, end=True)
    assert (bytes(second.taken), second.ended, client.credited) == (content, True, len(content))


def test_what_is_new_is_not_credited_with_what_is_sent_again() -> None:
    upload, client = begin()
    upload.attach(Backend())
    upload.offer(b"abc", 3, end=False)
    upload.detach()
    upload.offer(b"def", 3, end=False)
    backend = Backend(room=4)
    upload.attach(backend)
    assert (bytes(backend.taken), client.credited) == (b"abcd", 4)


def test_large_pieces_are_not_copied() -> None:
    upload, _ = begin(limit=100_000)
    pieces = [b"x" * JOINED_BYTES, b"y" * JOINED_BYTES]
    for piece in pieces:
        upload.offer(piece, len(piece), end=False)
    assert [data is piece for (data, _), piece in zip(upload._waiting, pieces, strict=True)] == [
        True,
        True,
    ]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.integers(0, 60)),
        st.tuples(st.just("room"), st.integers(1, 70)),
        st.tuples(st.just("attach"), st.integers(0, 50)),
        st.tuples(st.just("detach"), st.just(0)),
    ),
    max_size=40,
)


class Model:
    """An upload and what must be true of it at every moment."""

    def __init__(self, limit: int) -> None:
        self.upload, self.client = begin(limit=limit)
        self.limit = limit
        self.offered = bytearray()
        self.backend: Backend | None = None

    def step(self, name: str, number: int) -> None:
        match name:
            case "offer":
                data = bytes((len(self.offered) + at) % 256 for at in range(number))
                self.offered += data
                self.upload.offer(data, number, end=False)
            case "room" if self.backend is not None:
                self.backend.room += number
                self.upload.pump()
            case "attach" if self.backend is None:
                self.backend = Backend(room=number)
                self.upload.attach(self.backend)
            case "detach" if self.upload.replayable:
                self.upload.detach()
                self.backend = None
        self.check()

    def check(self) -> None:
        taken = self.backend.taken if self.backend is not None else b""
        assert self.offered.startswith(taken)
        assert len(taken) <= self.client.credited <= len(self.offered)
        assert sum(map(len, self.upload._kept)) <= self.limit
        held = sum(len(data) for data, _ in self.upload._waiting)
        owed = sum(credit for _, credit in self.upload._waiting)
        assert owed == len(self.offered) - self.client.credited
        assert held == len(self.offered) - len(taken)


@settings(max_examples=200, deadline=None)
@given(steps=STEPS, limit=st.sampled_from([0, 30, 500, 5000]), trailers=st.booleans())
def test_whatever_happens_the_last_backend_gets_all_and_the_client_its_credit(
    steps: list[tuple[str, int]], limit: int, trailers: bool
) -> None:
    model = Model(limit)
    for name, number in steps:
        model.step(name, number)
    if trailers:
        model.upload.offer_trailers([(b"t", b"1")])
    else:
        model.upload.offer(b"", 0, end=True)
    model.step("attach", 0)
    model.step("room", 100_000)
    assert model.backend is not None
    assert (model.backend.taken, model.backend.ended) == (model.offered, True)
    assert model.backend.trailers == ([(b"t", b"1")] if trailers else None)
    assert model.client.credited == len(model.offered) == model.upload.received
    assert model.upload.finished
