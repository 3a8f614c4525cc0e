"""aioquic's table from frame types to what takes a frame, once for all connections.

aioquic makes it for each connection, of thirty bound methods and sets: some 14 KiB, and cycles.
Here a connection has a view of one table, which binds what it is asked for.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any, TypeAlias

from aioquic.tls import Epoch

from spooky.protocol.quic.bounding import Bounding

Handlers: TypeAlias = dict[int, tuple[Callable[..., None], frozenset[Epoch]]]

_TABLE: Handlers = {}


class _View:
    """The table, as one connection has it."""

    __slots__ = ("_connection",)

    def __init__(self, connection: "FrameHandlers") -> None:
        self._connection = connection

    def __getitem__(self, kind: int) -> tuple[Callable[..., None], frozenset[Epoch]]:
        self._connection.count_frame(kind)
        function, epochs = _TABLE[kind]
        return MethodType(function, self._connection), epochs


class FrameHandlers(Bounding):
    """A connection that shares the table; it is made when the first of them is."""

    @property
    def _QuicConnection__frame_handlers(self) -> _View:  # noqa: N802
        return _View(self)

    @_QuicConnection__frame_handlers.setter
    def _QuicConnection__frame_handlers(self, bound: dict[int, Any]) -> None:  # noqa: N802
        if not _TABLE:
            _TABLE.update({kind: (one.__func__, epochs) for kind, (one, epochs) in bound.items()})
