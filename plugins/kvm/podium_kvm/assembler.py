"""As much of an assembler for x86-64 as the plugin's own programs need: system calls, and what decides between them.

A program is a static ELF file that is made in memory, a segment of code and one of data at fixed addresses; or what a
small one of those loads. Operands are registers by name and whole numbers; memory is at addresses that `data` and
`room` give.
"""

from __future__ import annotations

import struct

WRITE, EXIT = 1, 231  # asm/unistd_64.h
CODE, DATA = 0x400000, 0x10000000
_HEADER = 64 + 2 * 56
_REGISTERS = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{number}" for number in range(8, 16)))
_ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")  # of a system call, which changes rax, rcx and r11 besides
_JUMPS = {
    "always": b"\xe9",
    "equal": b"\x0f\x84",
    "different": b"\x0f\x85",
    "negative": b"\x0f\x8c",
    "positive": b"\x0f\x8f",
    "not positive": b"\x0f\x8e",
    "above": b"\x0f\x87",  # without a sign
    "below": b"\x0f\x82",
}
_LOADS = {1: b"\x0f\xb6", 2: b"\x0f\xb7", 4: b"\x8b", 8: b"\x8b"}

Operand = int | str


class Assembler:
    """A program that grows by what is called.

    Args:
        code: address of its code.
        data: address of its data.
    """

    def __init__(self, code: int = CODE, data: int = DATA) -> None:
        self._at = (code, data)
        self._code = bytearray()
        self._data = bytearray()
        self._room = 0
        self._labels: dict[str, int] = {}
        self._jumps: list[tuple[int, str]] = []  # where four bytes are to become the way to a label
        self._names = 0

    def data(self, content: bytes) -> int:
        """Place bytes in the program; returns their address."""
        self._data += bytes(-len(self._data) % 8)
        address = self._at[1] + len(self._data)
        self._data += content or bytes(8)
        return address

    def text(self, text: str) -> int:
        """Place a string."""
        return self.data(text.encode("utf-8", "surrogateescape") + b"\0")

    def strings(self, texts: list[str] | tuple[str, ...]) -> int:
        """Place a vector of strings, as execve(2) takes it."""
        places = [self.text(text) for text in texts]
        return self.data(struct.pack(f"<{len(places) + 1}Q", *places, 0))

    def room(self, size: int) -> int:
        """Have so many zeroes, which are not in the file; returns their address. All data is placed before."""
        address = self._at[1] + len(self._data) + -len(self._data) % 4096 + self._room
        self._room += size
        return address

    def label(self, name: str) -> None:
        """Where jumps of this name lead to."""
        self._labels[name] = len(self._code)

    def fresh(self, name: str) -> str:
        """A label that nobody else has."""
        self._names += 1
        return f"{name}-{self._names}"

    def jump(self, label: str, when: str = "always") -> None:
        """Go on at a label, if the last comparison or test came out so."""
        self._code += _JUMPS[when] + bytes(4)
        self._jumps.append((len(self._code), label))

    def go(self, address: int) -> None:
        """Go on at an address."""
        self.move("rax", address)
        self._code += b"\xff\xe0"

    def syscall(self, number: int, *arguments: Operand) -> None:
        """A system call; rax is what it returns. Registers among the arguments are none that others are passed in."""
        for register, value in zip(_ARGUMENTS, arguments, strict=False):
            self.move(register, value)
        self.move("rax", number)
        self._code += b"\x0f\x05"

    def move(self, to: str, value: Operand) -> None:
        """Set a register."""
        if isinstance(value, str):
            self._between(0x89, to, value)
            return
        number = _REGISTERS.index(to)
        if 0 <= value < 1 << 31:
            self._code += (b"\x41" if number > 7 else b"") + bytes([0xB8 | number & 7]) + struct.pack("<I", value)
        else:
            self._code += bytes([0x48 | number >> 3, 0xB8 | number & 7]) + struct.pack("<Q", value & (1 << 64) - 1)

    def add(self, to: str, value: Operand) -> None:
        """Add."""
        self._operate(0x01, 0, to, value)

    def subtract(self, to: str, value: Operand) -> None:
        """Subtract."""
        self._operate(0x29, 5, to, value)

    def mask(self, to: str, value: Operand) -> None:
        """Keep the bits that are set in the value, too."""
        self._operate(0x21, 4, to, value)

    def compare(self, register: str, value: Operand) -> None:
        """Compare, for the jump that follows."""
        self._operate(0x39, 7, register, value)

    def shift(self, register: str, bits: int) -> None:
        """Shift to the right."""
        number = _REGISTERS.index(register)
        self._code += bytes([0x48 | number >> 3, 0xC1, 0xE8 | number & 7, bits])

    def shift_left(self, register: str) -> None:
        """Shift to the left by so many bits as are in rcx."""
        number = _REGISTERS.index(register)
        self._code += bytes([0x48 | number >> 3, 0xD3, 0xE0 | number & 7])

    def times(self, register: str, value: int) -> None:
        """Multiply."""
        number = _REGISTERS.index(register)
        self._code += bytes([0x48 | number >> 3 | number >> 3 << 2, 0x69, 0xC0 | (number & 7) * 9])
        self._code += struct.pack("<i", value)

    def divide(self, register: str) -> None:
        """Divide rax by a register; rdx becomes the rest."""
        self.move("rdx", 0)
        number = _REGISTERS.index(register)
        self._code += bytes([0x48 | number >> 3, 0xF7, 0xF0 | number & 7])

    def load(self, to: str, place: Operand, size: int = 8) -> None:
        """Set a register to what is at an address, or at that in a register; of less than 8 bytes the rest is 0."""
        self._access(_LOADS[size], to, place, size)

    def store(self, place: Operand, register: str, size: int = 8) -> None:
        """Put a register's last bytes to an address, or to that in a register."""
        self._access(b"\x88" if size == 1 else b"\x89", register, place, size)

    def _operate(self, between: int, extension: int, to: str, value: Operand) -> None:
        if isinstance(value, str):
            self._between(between, to, value)
            return
        number = _REGISTERS.index(to)
        self._code += bytes([0x48 | number >> 3, 0x81, 0xC0 | extension << 3 | number & 7]) + struct.pack("<i", value)

    def _between(self, operation: int, to: str, value: str) -> None:
        target, source = _REGISTERS.index(to), _REGISTERS.index(value)
        self._code += bytes([0x48 | source >> 3 << 2 | target >> 3, operation, 0xC0 | (source & 7) << 3 | target & 7])

    def _access(self, operation: bytes, register: str, place: Operand, size: int) -> None:
        number = _REGISTERS.index(register)
        base = _REGISTERS.index(place) if isinstance(place, str) else 0
        assert base & 7 not in (4, 5), "rsp, rbp, r12 and r13 are written otherwise"
        self._code += bytes([0x40 | (size == 8) << 3 | number >> 3 << 2 | base >> 3]) + operation
        if isinstance(place, str):
            self._code += bytes([(number & 7) << 3 | base & 7])
        else:
            self._code += bytes([(number & 7) << 3 | 4, 0x25]) + struct.pack("<I", place)

    def _whole(self) -> int:
        """Fill in where the jumps lead to; returns how much memory the data takes."""
        for place, label in self._jumps:
            self._code[place - 4 : place] = struct.pack("<i", self._labels[label] - place)
        return len(self._data) + (-len(self._data) % 4096 + self._room if self._room else 0)

    def image(self) -> bytes:
        """For a loader: the lengths of code and data, and of the memory of the data, 8 bytes each; then both."""
        whole = self._whole()
        return struct.pack("<QQQ", len(self._code), len(self._data), whole) + self._code + self._data

    def elf(self) -> bytes:
        """The whole file: elf(5)."""
        whole, size, (first, second) = self._whole(), len(self._data), self._at
        at = _HEADER + len(self._code)
        gap = -at % 4096
        offset = at + gap
        ident = b"\x7fELF\x02\x01\x01" + bytes(9)
        header = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, first + _HEADER, 64, 0, 0, 64, 56, 2, 64, 0, 0)
        code = struct.pack("<IIQQQQQQ", 1, 5, 0, first, first, at, at, 4096)
        data = struct.pack("<IIQQQQQQ", 1, 6, offset, second, second, size, whole, 4096)
        return bytes(header + code + data + self._code + bytes(gap) + self._data)
