from ipaddress import ip_network

import pytest

from spooky.policy.rate.clients import MOST_KNOWN, Clients


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("0.0.0.0", "::", False),
    ],
)
def test_who_is_the_same_client(one: str, other: str, same: bool) -> None:
    clients = Clients(64, ())
    assert (clients.key_of(one) == clients.key_of(other)) is same


@pytest.mark.parametrize(("prefix", "same"), [(56, True), (63, True), (64, False), (128, False)])
def test_the_prefix_is_configurable(prefix: int, same: bool) -> None:
    clients = Clients(prefix, ())
    assert (clients.key_of("2001:db8::1") == clients.key_of("2001:db8:0:1::1")) is same


@pytest.mark.parametrize(
    ("address", "exempt"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("11.1.2.3", False),
        ("2001:db8::5", True),
        ("2001:db9::5", False),
    ],
)
def test_who_is_exempt(address: str, exempt: bool) -> None:
    clients = Clients(64, [ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")])
    for _ in range(2):
        assert (clients.key_of(address) is None) is exempt


def test_it_remembers_no_more_than_so_many() -> None:
    clients = Clients(64, ())
    for number in range(3 * MOST_KNOWN):
        assert clients.key_of(f"10.0.{number >> 8}.{number & 255}") is not None
    assert len(clients._known) <= MOST_KNOWN
