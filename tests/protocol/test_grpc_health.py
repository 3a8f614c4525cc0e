"""The messages of gRPC's health protocol, against octets that protobuf makes of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.protocol.grpc_health import ServingStatus, decode_answer, encode_question


@pytest.mark.parametrize(
    ("service", "octets"),
    [
        ("", "00 00000000"),
        ("a", "00 00000003 0a 01 61"),
        ("shop.Cart", "00 0000000b 0a 09 73686f702e43617274"),
        ("x" * 200, "00 000000cb 0a c801 " + "78" * 200),
    ],
)
def test_a_question(service: str, octets: str) -> None:
    assert encode_question(service) == bytes.fromhex(octets)


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        # The default of an enumeration is not written.
        ("00 00000000", ServingStatus.UNKNOWN),
        ("00 00000002 08 01", ServingStatus.SERVING),
        ("00 00000002 08 02", ServingStatus.NOT_SERVING),
        ("00 00000002 08 03", ServingStatus.SERVICE_UNKNOWN),
        # The last one counts.
        ("00 00000004 08 02 08 01", ServingStatus.SERVING),
        # Fields of later versions, one of each type.
        ("00 00000005 10 9601 08 01", ServingStatus.SERVING),
        ("00 00000006 12 02 6162 08 01", ServingStatus.SERVING),
        ("00 0000000b 11 0102030405060708 08 01", ServingStatus.SERVING),
        ("00 00000007 15 01020304 08 01", ServingStatus.SERVING),
        ("00 00000002 08 07", None),
        ("", None),
        ("00 000000", None),
        ("01 00000002 08 01", None),
        ("00 00000003 08 01", None),
        ("00 00000002 08 01 00", None),
        ("00 00000001 08", None),
        ("00 00000003 12 05 61", None),
        ("00 00000002 0b 01", None),
        ("00 0000000c 08 ffffffffffffffffffffff", None),
    ],
)
def test_an_answer(octets: str, status: ServingStatus | None) -> None:
    if status is None:
        with pytest.raises(ValueError, match=r".+"):
            decode_answer(bytes.fromhex(octets))
    else:
        assert decode_answer(bytes.fromhex(octets)) is status


@given(st.binary(max_size=64))
def test_whatever_comes_is_a_status_or_a_value_error(message: bytes) -> None:
    try:
        found = decode_answer(b"\0" + len(message).to_bytes(4, "big") + message)
    except ValueError:
        return
    assert found in ServingStatus
