"""The keys in use, taken out of aioquic's objects for what seals and opens packets."""

from collections.abc import Callable

from aioquic._crypto import AEAD, HeaderProtection
from aioquic.quic.crypto import CryptoContext

from spooky.protocol.quic.protection import Opener, Sealer


def make_sealer(keys: CryptoContext, first: int, cid: bytes) -> Sealer:
    """Seal with the sending keys of a connection, to the client's connection ID `cid`."""
    aead, mask = _parts(keys)
    return Sealer(aead._aead.encrypt, mask, aead._iv, first, cid)


def make_opener(keys: CryptoContext, cid: bytes) -> Opener:
    """Open with the receiving keys of a connection, what comes to our connection ID `cid`."""
    aead, mask = _parts(keys)
    return Opener(aead._aead.decrypt, mask, aead._iv, keys.key_phase, cid)


def _parts(keys: CryptoContext) -> tuple[AEAD, Callable[[bytes], bytes]]:
    aead, protection = keys.aead, keys.hp
    assert aead is not None
    assert protection is not None
    return aead, _mask_of(protection)


def _mask_of(protection: HeaderProtection) -> Callable[[bytes], bytes]:
    # What aioquic does for AES, without a look at which cipher it is for every packet.
    return protection._mask if protection._is_chacha20 else protection._encryptor.update
