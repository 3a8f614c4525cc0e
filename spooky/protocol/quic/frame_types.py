"""The frames that are written and read without aioquic (RFC 9000 section 19)."""

from typing import Final

ACK: Final = 0x02
STREAM: Final = 0x08
"""The first of eight types: the three lowest bits say which fields there are."""
FIN: Final = 0x01
LENGTH: Final = 0x02
OFFSET: Final = 0x04
