"""Runs the tunnel's eBPF programs on octets, so that they can be held against other code (RFC 9669)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from resolverd_tunnel.bpf import R0, R1, R2, R3, R4, R5, R6, STACK, Instruction

_CONTEXT = 1 << 40
_TOP = 1 << 41
"""Addresses of the context and of the end of the stack."""
_STACK = 512
_WORD = (1 << 64) - 1


@dataclass
class Machine:
    """One run over ``packet``."""

    packet: bytearray
    has_room: bool = True
    """Whether the kernel makes room for a header."""
    redirected: tuple[int, int] | None = None
    """Device and flags."""
    _registers: list[int] = field(default_factory=lambda: [0] * 11)
    _stack: bytearray = field(default_factory=lambda: bytearray(_STACK))

    def run(self, code: Sequence[Instruction]) -> int:
        """The verdict."""
        r = self._registers
        r[R1], r[STACK] = _CONTEXT, _TOP
        place = 0
        while True:
            each = code[place]
            place += 1
            match each.opcode:
                case 0x95:
                    return r[R0]
                case 0x30 | 0x28:
                    assert r[R6] == _CONTEXT, "R6 has to hold the context"
                    size = 1 if each.opcode == 0x30 else 2
                    if each.value + size > len(self.packet):
                        return 0
                    r[R0] = int.from_bytes(self.packet[each.value : each.value + size], "big")
                    self._forget()
                case 0x61:
                    assert (r[each.source], each.offset) == (_CONTEXT, 0), "of the context, only the length is here"
                    r[each.to] = len(self.packet)
                case 0x62 | 0x6B:
                    assert r[each.to] == _TOP
                    value = each.value if each.opcode == 0x62 else r[each.source] & 0xFFFF
                    octets = (
                        value.to_bytes(4, "little", signed=True) if each.opcode == 0x62 else value.to_bytes(2, "little")
                    )
                    start = _STACK + each.offset
                    self._stack[start : start + len(octets)] = octets
                case 0x85:
                    self._call(each.value)
                case 0x05:
                    place += each.offset
                case 0x15 | 0x55 | 0x5D | 0xA5 | 0x2D:
                    place += each.offset if self._holds(each) else 0
                case _:
                    self._compute(each)

    def _holds(self, each: Instruction) -> bool:
        left = self._registers[each.to]
        match each.opcode:
            case 0x15:
                return left == each.value
            case 0x55:
                return left != each.value
            case 0x5D:
                return left != self._registers[each.source]
            case 0xA5:
                return left < each.value
        return left > self._registers[each.source]

    def _compute(self, each: Instruction) -> None:
        r = self._registers
        results = {
            0xB7: each.value,
            0xBF: r[each.source],
            0x07: r[each.to] + each.value,
            0x57: r[each.to] & each.value,
            0x67: r[each.to] << max(each.value, 0),
            0x77: r[each.to] >> max(each.value, 0),
        }
        r[each.to] = results[each.opcode] & _WORD

    def _call(self, function: int) -> None:
        r = self._registers
        if function == 23:  # bpf_redirect
            self.redirected, r[R0] = (r[R1], r[R2]), 7
        elif function == 43:  # bpf_skb_change_head
            assert (r[R1], r[R3]) == (_CONTEXT, 0)
            r[R0] = 0 if self.has_room else _WORD
            if self.has_room:
                self.packet[:0] = bytes(r[R2])
        elif function == 9:  # bpf_skb_store_bytes
            assert (r[R1], r[R5]) == (_CONTEXT, 0)
            start = r[R3] - _TOP + _STACK
            self.packet[r[R2] : r[R2] + r[R4]] = self._stack[start : start + r[R4]]
            r[R0] = 0
        else:
            raise AssertionError(f"no function {function} here")
        self._forget()

    def _forget(self) -> None:
        """A call leaves its arguments' registers as nothing that may be read."""
        for register in (R1, R2, R3, R4, R5):
            self._registers[register] = 0xDEAD
