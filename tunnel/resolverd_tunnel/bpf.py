"""eBPF, as little of it as moving packets takes: instructions, and a program of them in the kernel (RFC 9669, bpf(2)).

No compiler and no library: a program here has a few dozen instructions, and the kernel checks them before they run.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, STACK = range(11)
"""Registers: what a call returns and the program's verdict, five arguments, four that a call keeps, the stack's end."""

_CALLS = {"x86_64": 321, "i386": 357, "i686": 357, "ppc64le": 361, "ppc64": 361, "s390x": 351, "armv7l": 386}
_CALL_ELSEWHERE = 280
"""bpf(2) has no function in the C library. The number of the generic table: arm64, riscv64, loongarch64."""
_PROGRAM_LOAD = 5
_CLASSIFIER = 3
"""BPF_PROG_TYPE_SCHED_CLS: what tc asks for a verdict on a packet."""
_ATTRIBUTES = 128
"""Octets of the call's argument; the kernel takes what is behind the ones it knows if it is zero."""
_LICENSE = b"Apache-2.0"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One of 64 bits."""

    opcode: int
    to: int = 0
    source: int = 0
    offset: int = 0
    value: int = 0
    label: str = ""
    """Where a jump leads; ``offset`` is what comes of it."""

    def pack(self) -> bytes:
        registers = self.to | self.source << 4 if sys.byteorder == "little" else self.to << 4 | self.source
        return struct.pack("=BBhi", self.opcode, registers, self.offset, self.value)


Line = Instruction | str
"""An instruction, or the label of the one that follows."""

EXIT = Instruction(0x95)


def set_to(register: int, value: int) -> Instruction:
    return Instruction(0xB7, register, value=value)


def copy(register: int, source: int) -> Instruction:
    return Instruction(0xBF, register, source)


def add(register: int, value: int) -> Instruction:
    return Instruction(0x07, register, value=value)


def keep_bits(register: int, value: int) -> Instruction:
    return Instruction(0x57, register, value=value)


def shift_left(register: int, bits: int) -> Instruction:
    return Instruction(0x67, register, value=bits)


def shift_right(register: int, bits: int) -> Instruction:
    return Instruction(0x77, register, value=bits)


def read_octet(offset: int) -> Instruction:
    """R0 becomes an octet of the packet, whose context is in R6; without one there the verdict is 0. Loses R1 to R5."""
    return Instruction(0x30, value=offset)


def read_pair(offset: int) -> Instruction:
    """The same with two octets, in network order."""
    return Instruction(0x28, value=offset)


def load_word(register: int, source: int, offset: int) -> Instruction:
    """``register`` becomes the 32 bits at ``offset`` from the address in ``source``."""
    return Instruction(0x61, register, source, offset)


def store_word(to: int, offset: int, value: bytes) -> Instruction:
    """Four octets to ``offset`` from the address in ``to``."""
    return Instruction(0x62, to, offset=offset, value=struct.unpack("=i", value)[0])


def store_pair(to: int, offset: int, source: int) -> Instruction:
    """The low 16 bits of a register, as this machine orders octets."""
    return Instruction(0x6B, to, source, offset)


def call(function: int) -> Instruction:
    """A function of the kernel's (bpf-helpers(7)), with the arguments in R1 to R5."""
    return Instruction(0x85, value=function)


def jump(label: str) -> Instruction:
    return Instruction(0x05, label=label)


def jump_if(register: int, value: int, label: str) -> Instruction:
    """When they are equal."""
    return Instruction(0x15, register, value=value, label=label)


def jump_unless(register: int, value: int, label: str) -> Instruction:
    """When they are not equal."""
    return Instruction(0x55, register, value=value, label=label)


def jump_unless_same(register: int, other: int, label: str) -> Instruction:
    """When two registers are not equal."""
    return Instruction(0x5D, register, other, label=label)


def jump_if_less(register: int, value: int, label: str) -> Instruction:
    return Instruction(0xA5, register, value=value, label=label)


def jump_if_more_than(register: int, other: int, label: str) -> Instruction:
    """When ``register`` holds more than the register ``other``."""
    return Instruction(0x2D, register, other, label=label)


def assemble(lines: Iterable[Line]) -> list[Instruction]:
    """The instructions, every jump with its offset. KeyError for a label that is not there."""
    code: list[Instruction] = []
    labels: dict[str, int] = {}
    for line in lines:
        if isinstance(line, str):
            labels[line] = len(code)
        else:
            code.append(line)
    return [
        replace(each, offset=labels[each.label] - place - 1) if each.label else each for place, each in enumerate(code)
    ]


def load(code: Iterable[Instruction]) -> int:
    """A descriptor of the program, which the kernel keeps while something uses it. OSError when it does not take it."""
    octets = b"".join(each.pack() for each in code)
    program, license_ = ctypes.create_string_buffer(octets, len(octets)), ctypes.create_string_buffer(_LICENSE)
    given = struct.pack("=IIQQ", _CLASSIFIER, len(octets) // 8, ctypes.addressof(program), ctypes.addressof(license_))
    attributes = ctypes.create_string_buffer(given.ljust(_ATTRIBUTES, b"\0"), _ATTRIBUTES)
    number = _CALLS.get(platform.machine(), _CALL_ELSEWHERE)
    if sys.maxsize < 1 << 32 and number in (_CALLS["x86_64"], _CALL_ELSEWHERE):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))  # a 32-bit program on a 64-bit kernel
    descriptor: int = ctypes.CDLL(None, use_errno=True).syscall(
        ctypes.c_long(number), ctypes.c_int(_PROGRAM_LOAD), attributes, ctypes.c_uint(_ATTRIBUTES)
    )
    if descriptor < 0:
        code_ = ctypes.get_errno()
        raise OSError(code_, os.strerror(code_))
    return descriptor
