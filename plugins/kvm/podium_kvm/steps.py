"""Programs that run in a guest: system calls one after the other, and a message where one fails."""

from __future__ import annotations

import os

from podium_kvm.assembler import EXIT, WRITE, Assembler, Operand

_OPEN, _CLOSE = 2, 3  # asm/unistd_64.h


class Steps(Assembler):
    """A program that says what it could not do.

    Attributes:
        rescue: label to go to where a step fails, with the exit code in r12; empty: the program ends with it.
    """

    rescue = ""

    def must(self, step: str, number: int, *arguments: Operand, code: int = 125) -> None:
        """A system call that must succeed."""
        done = self.fresh("done")
        self.syscall(number, *arguments)
        self.compare("rax", -4095)
        self.jump(done, "below")
        self.fail(step, code)
        self.label(done)

    def fail(self, what: str, code: int) -> None:
        """Say what failed on standard error, and end or go to the rescue."""
        message = f"podium: {what}\n".encode("utf-8", "surrogateescape")
        self.syscall(WRITE, 2, self.data(message), len(message))
        if self.rescue:
            self.move("r12", code)
            self.jump(self.rescue)
        else:
            self.syscall(EXIT, code)

    def write_file(self, step: str, path: str, content: bytes) -> None:
        """Write to a file that is there."""
        self.must(step, _OPEN, self.text(path), os.O_WRONLY)
        self.move("rbx", "rax")
        self.must(step, WRITE, "rbx", self.data(content), len(content))
        self.syscall(_CLOSE, "rbx")
