"""The kernel's way of giving a datagram to the worker that it is for: a classic BPF program.

It owns the program, which a group of SO_REUSEPORT sockets runs for each datagram and whose
result is the place of a socket in the group. The tests say the same in Python. No right is needed
to attach it (socket(7), SO_ATTACH_REUSEPORT_CBPF).

Rules: a connection ID of ours names a slot, and only slots in use may be named; everything else
goes to the serving generation, by the first octets of the connection ID that the client chose.
Every load stays within the shortest datagram that is looked at: one past the end would end the
program, and a result past the last socket would make the kernel choose among all of them, also
among those that nobody reads.
"""

import ctypes
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from spooky.protocol import cid
from spooky.protocol.datagram import SMALLEST_SHORT

SO_ATTACH_REUSEPORT_CBPF: Final = 51
"""asm-generic/socket.h"""

# Where things are in a datagram (RFC 9000 section 17): offset 0 is the first octet of QUIC.
_SHORT_DCID: Final = 1
_LONG_DCID_LENGTH: Final = 5
_LONG_DCID: Final = 6
_LONG_BIT: Final = 0x80

# linux/bpf_common.h, linux/filter.h
_LD_LEN: Final = 0x80
_LD_WORD: Final = 0x20
_LD_BYTE: Final = 0x30
_TAX: Final = 0x07
_XOR_X: Final = 0xAC
_MOD: Final = 0x94
_ADD: Final = 0x04
_RET_A: Final = 0x16
_RET: Final = 0x06
_JUMP: Final = 0x05
_JEQ: Final = 0x15
_JGE: Final = 0x35
_JSET: Final = 0x45

_INSTRUCTION: Final = struct.Struct("=HBBI")


@dataclass(frozen=True, slots=True)
class Program:
    """Where datagrams go: `serving` is where new connections do, `living` are slots with a reader.

    Ranges are (first slot, number of slots).
    """

    serving: tuple[int, int]
    living: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _Line:
    """One instruction; `yes` and `no` are labels to go to, empty being the next line."""

    code: int
    operand: int = 0
    yes: str = ""
    no: str = ""
    label: str = ""


def assemble(program: Program) -> bytes:
    """Make the octets of the program."""
    return _link([*_find_slot(), *_check_slot(program.living), *_spread(program.serving)])


def attach(group: socket.socket, program: Program) -> None:
    """Have the kernel steer the datagrams of a socket's group; OSError where it cannot."""
    code = assemble(program)
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: the number of instructions and where they are.
    described = struct.pack("@HP", len(code) // _INSTRUCTION.size, ctypes.addressof(buffer))
    group.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, described)


def _find_slot() -> list[_Line]:
    """Load the slot of a connection ID of ours."""
    mask, slot, marker = cid.MASK_OFFSET, cid.SLOT_OFFSET, cid.FIRST_OCTET
    return [
        _Line(_LD_LEN),
        _Line(_JGE, SMALLEST_SHORT, no="first"),
        _Line(_LD_BYTE, 0),
        _Line(_JSET, _LONG_BIT, yes="long"),
        _Line(_LD_BYTE, _SHORT_DCID),
        _Line(_JEQ, marker, no="spread"),
        _Line(_LD_BYTE, _SHORT_DCID + mask),
        _Line(_TAX),
        _Line(_LD_BYTE, _SHORT_DCID + slot),
        _Line(_XOR_X),
        _Line(_JUMP, yes="check"),
        _Line(_LD_BYTE, _LONG_DCID_LENGTH, label="long"),
        _Line(_JEQ, cid.CID_LENGTH, no="spread"),
        _Line(_LD_BYTE, _LONG_DCID),
        _Line(_JEQ, marker, no="spread"),
        _Line(_LD_BYTE, _LONG_DCID + mask),
        _Line(_TAX),
        _Line(_LD_BYTE, _LONG_DCID + slot),
        _Line(_XOR_X),
    ]


def _check_slot(living: Iterable[tuple[int, int]]) -> list[_Line]:
    """Return the slot if it has a reader; fall through if not."""
    lines = []
    for number, (first, count) in enumerate(sorted(living)):
        label = "check" if number == 0 else f"range {number}"
        after = f"range {number + 1}"
        lines += [
            _Line(_JGE, first, no="spread", label=label),
            _Line(_JGE, first + count, yes=after),
            _Line(_RET_A),
        ]
    beyond = f"range {len(lines) // 3}" if lines else "check"
    return [*lines, _Line(_JUMP, yes="spread", label=beyond)]


def _spread(serving: tuple[int, int]) -> list[_Line]:
    """Return a slot of the serving generation."""
    first, count = serving
    return [
        _Line(_LD_BYTE, 0, label="spread"),
        _Line(_JSET, _LONG_BIT, no="short"),
        _Line(_LD_WORD, _LONG_DCID),
        _Line(_JUMP, yes="modulo"),
        _Line(_LD_WORD, _SHORT_DCID, label="short"),
        _Line(_MOD, count, label="modulo"),
        _Line(_ADD, first),
        _Line(_RET_A),
        _Line(_RET, first, label="first"),
    ]


def _link(lines: list[_Line]) -> bytes:
    places = {line.label: number for number, line in enumerate(lines) if line.label}
    code = b""
    for number, line in enumerate(lines):
        yes, no = (places[label] - number - 1 if label else 0 for label in (line.yes, line.no))
        if line.code == _JUMP:
            code += _INSTRUCTION.pack(line.code, 0, 0, yes)
        else:
            code += _INSTRUCTION.pack(line.code, yes, no, line.operand)
    return code
