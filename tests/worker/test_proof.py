"""What a client's token proves to a worker, and how often."""

import pytest

from spooky.protocol.cid import mint
from spooky.protocol.datagram import VERSION_1, Datagram, Kind
from spooky.protocol.downstream import Retried
from spooky.protocol.messages import Path
from spooky.worker import proof
from spooky.worker.proof import Proofs

KEY = bytes(range(32))
PATH = Path(("192.0.2.1", 40000))
FIRST = Datagram(Kind.INITIAL, b"a client's", b"scid", VERSION_1)


def with_token(token: bytes, dcid: bytes = FIRST.dcid) -> Datagram:
    return FIRST._replace(token=token, dcid=dcid)


def test_the_token_of_a_retry_proves_it_again_and_again() -> None:
    """A first flight of several datagrams brings it with each."""
    source = mint(3, bytes(9))
    token = Proofs(KEY).for_retry(FIRST, PATH, source)
    proofs = Proofs(KEY)
    for _ in range(2):
        assert proofs.of(with_token(token, source), PATH) == Retried(PATH, FIRST.dcid, source)


@pytest.mark.parametrize("dcid", [FIRST.dcid, mint(3, bytes(9))])
def test_a_token_of_an_earlier_connection_proves_it_once(dcid: bytes) -> None:
    """Whatever destination the client chose, one that looks like ours included."""
    token = Proofs(KEY).for_next_time(VERSION_1, PATH)
    moved = Path(("192.0.2.1", 50000))
    proofs = Proofs(KEY)
    assert proofs.of(with_token(token, dcid), moved) == Retried(moved, dcid, None)
    assert proofs.of(with_token(token, dcid), moved) is None


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "REMEMBERED", 3)
    proofs = Proofs(KEY)
    tokens = [proofs.for_next_time(VERSION_1, PATH) for _ in range(4)]
    assert all(proofs.of(with_token(token), PATH) for token in tokens)
    assert not any(proofs.of(with_token(token), PATH) for token in tokens[1:])
    assert len(proofs._spent) == 3


@pytest.mark.parametrize("token", [b"", b"x", b"of somebody else's server, long enough"])
def test_other_tokens_prove_nothing(token: bytes) -> None:
    assert Proofs(KEY).of(with_token(token), PATH) is None
