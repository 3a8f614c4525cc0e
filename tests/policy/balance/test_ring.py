import struct
from hashlib import md5

import pytest

from spooky.policy.balance.ring import Ring

SERVERS = {
    "10.0.1.1": 600,
    "10.0.1.2": 300,
    "10.0.1.3": 200,
    "10.0.1.4": 350,
    "10.0.1.5": 1000,
    "10.0.1.6": 800,
    "10.0.1.7": 950,
    "10.0.1.8": 100,
}
"""The servers of libketama's example, by weight."""

KNOWN = [
    ("SVa_]_V41)", 443691461, 445379617, "10.0.1.7"),
    ("*/Z;?V(.\\8", 1422915503, 1428303028, "10.0.1.1"),
    ("30C1*Z*S/_", 1473165754, 1480075959, "10.0.1.2"),
    ("ERR:EC58G>", 2148406511, 2168579133, "10.0.1.7"),
    ("1I=cTMNTKF", 2882686667, 2885206587, "10.0.1.5"),
    ("UUTC`-V159", 3716288206, 3727224240, "10.0.1.5"),
    ("4(`X;\\V.^c", 373546328, 383925769, "10.0.1.1"),
    ("726bW=9*a4", 4213440020, 4213950705, "10.0.1.7"),
    ("P1[Ma3=K1/", 1989324036, 1994028240, "10.0.1.8"),
    ("D[HE+cFXDK", 2117036136, 2117124014, "10.0.1.3"),
    ("\\39DKW^)N_", 3548879868, 3550704865, "10.0.1.3"),
    ("EM75N0+[X1", 1558531507, 1559308507, "10.0.1.4"),
    ("6,cEI`F_P>", 3972869246, 3974773167, "10.0.1.6"),
    ("c,5AQ/T5)6", 2835605783, 2847870057, "10.0.1.8"),
    ("8*6a;Sc*X+", 4223431086, 4230156966, "10.0.1.2"),
    ("]\\.UH8_0a1", 2419699252, 2423002920, "10.0.1.4"),
    ("N-)88>[O`,", 50404102, 51792557, "10.0.1.5"),
    ("0OZH^9BKM[", 3682518606, 3686781297, "10.0.1.8"),
    ("M(@X^b[L:K", 3019630308, 3022260113, "10.0.1.1"),
    ("VD6D0]ba_\\", 3842502950, 3842588691, "10.0.1.1"),
]
"""Key, its position, the point that it falls to, whose that is: as libketama has it, from the
`ketama_results` that the tests of Finagle and other clients of memcached share."""


@pytest.mark.parametrize(("key", "position", "point", "server"), KNOWN)
def test_libketama_agrees(key: str, position: int, point: int, server: str) -> None:
    ring = Ring(list(SERVERS), list(SERVERS.values()))
    (hashed,) = struct.unpack("<I", md5(key.encode()).digest()[:4])
    assert hashed == position
    # All that lies between the position and the point belongs to the point.
    for at in (position, point):
        assert list(SERVERS)[ring.first(at << 32)] == server


def test_after_the_last_point_comes_the_first() -> None:
    ring = Ring(list(SERVERS), list(SERVERS.values()))
    assert ring.first(2**64 - 1) == ring.first(0)


def test_others_go_around_once_and_meet_everybody() -> None:
    ring = Ring(list(SERVERS), list(SERVERS.values()))
    key = 1 << 63
    others = list(ring.others(key))
    assert set(others) == set(range(8))
    assert len(others) < 8 * 160


def test_the_lightest_has_points() -> None:
    ring = Ring(["a", "b"], [1, 1000])
    assert 0 in set(ring.others(0))
