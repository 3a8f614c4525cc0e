"""What all engines towards a backend have in common."""

from spooky.protocol.messages import Body, GoAway, UpstreamEvent, Writable
from spooky.protocol.upstream import join_content


def test_content_is_joined_between_other_events() -> None:
    events: list[UpstreamEvent] = [
        Body(1, b"a", False, 1),
        Body(3, b"x", False, 9),
        Body(1, b"b", False, 2),
        Writable(5),
        Body(3, b"y", False, 1),
        Body(1, b"c", False, 1),
        Body(3, b"", True, 0),
        GoAway(5, 0),
    ]
    assert join_content(events) == [
        Body(1, b"ab", False, 3),
        Body(3, b"x", False, 9),
        Writable(5),
        Body(3, b"y", True, 1),
        Body(1, b"c", False, 1),
        GoAway(5, 0),
    ]
