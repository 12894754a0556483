"""A program: whether /dev/kvm runs guests. Prints one line, `yes`, or `no: REASON`.

Opening /dev/kvm proves nothing: software back ends and half-nested hosts open it, make machines, and then fail, hang or
compute wrongly. So a guest of a few instructions is run twice, in real mode and in long mode with cmpxchg16b, SSE2
and x87, and its results are looked at. It is a program of its own because KVM_RUN may never return: it is killed then.

Source: Documentation/virt/kvm/api.rst of the kernel; instruction encodings from the Intel SDM, volume 2.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
import sys

DEVICE = "/dev/kvm"

_GET_API_VERSION, _CREATE_VM, _GET_VCPU_MMAP_SIZE = 0xAE00, 0xAE01, 0xAE04
_GET_SUPPORTED_CPUID, _SET_CPUID2 = 0xC008AE05, 0x4008AE90
_CREATE_VCPU, _SET_USER_MEMORY_REGION, _SET_TSS_ADDR = 0xAE41, 0x4020AE46, 0xAE47
_RUN, _SET_REGS, _GET_SREGS, _SET_SREGS = 0xAE80, 0x4090AE82, 0x8138AE83, 0x4138AE84
_EXIT_IO, _EXIT_HLT = 2, 5
_API_VERSION = 12
_EXIT_REASON, _IO = 8, 32  # offsets in struct kvm_run
_MEMORY = 0x10000  # bytes of the guest's memory
_CODE, _PML4, _PDPT, _PD, _SCRATCH = 0x1000, 0x2000, 0x3000, 0x4000, 0x6000  # what lies where in it
_TSS = 0x7FFBD000  # three pages out of the way, which real mode on Intel needs
_PORT = 0x3F8

_REAL = bytes.fromhex(
    "baf803"  # mov dx, 0x3f8
    "00d8"  # add al, bl
    "0430"  # add al, '0'
    "ee"  # out dx, al
    "f4"  # hlt
)
_LONG = bytes.fromhex(
    "bf00600000"  # mov edi, _SCRATCH
    "31c0"  # xor eax, eax
    "31d2"  # xor edx, edx
    "bb34120000"  # mov ebx, 0x1234
    "b978560000"  # mov ecx, 0x5678
    "f0480fc70f"  # lock cmpxchg16b [rdi]
    "751d"  # jnz to the hlt
    "0f2807"  # movaps xmm0, [rdi]
    "660ffec0"  # paddd xmm0, xmm0
    "0f294710"  # movaps [rdi+16], xmm0
    "dbe3"  # fninit
    "db07"  # fild dword [rdi]
    "d8c0"  # fadd st0, st0
    "db5f20"  # fistp dword [rdi+32]
    "66baf803"  # mov dx, 0x3f8
    "b04b"  # mov al, 'K'
    "ee"  # out dx, al
    "9090"  # nop; nop
    "f4"  # hlt
)
_EXPECTED = struct.pack("<QQQQI", 0x1234, 0x5678, 0x2468, 0xACF0, 0x2468)


class No(Exception):
    """KVM can't be used, and why."""


class Machine:
    """A virtual machine of one processor and 64 KiB of memory; its descriptors live as long as this process."""

    def __init__(self, kvm: int) -> None:
        self._vm = fcntl.ioctl(kvm, _CREATE_VM, 0)
        try:
            fcntl.ioctl(self._vm, _SET_TSS_ADDR, _TSS)
        except OSError:
            pass  # not every back end has it, nor needs it
        self.memory = mmap.mmap(-1, _MEMORY, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        fcntl.ioctl(self._vm, _SET_USER_MEMORY_REGION, struct.pack("<IIQQQ", 0, 0, 0, _MEMORY, address))
        self._cpu = fcntl.ioctl(self._vm, _CREATE_VCPU, 0)
        cpuid = bytearray(struct.pack("<II", 256, 0) + bytes(256 * 40))
        fcntl.ioctl(kvm, _GET_SUPPORTED_CPUID, cpuid)
        fcntl.ioctl(self._cpu, _SET_CPUID2, cpuid)
        self._run = mmap.mmap(self._cpu, fcntl.ioctl(kvm, _GET_VCPU_MMAP_SIZE, 0), mmap.MAP_SHARED)

    def load(self, code: bytes, *, long: bool) -> None:
        """Put code in place and set the registers for it."""
        self.memory[_CODE : _CODE + len(code)] = code
        sregs = bytearray(312)
        fcntl.ioctl(self._cpu, _GET_SREGS, sregs)
        if long:
            for table, entry in ((_PML4, _PDPT | 3), (_PDPT, _PD | 3), (_PD, 0x83)):  # present, writable; a 2 MiB page
                self.memory[table : table + 8] = struct.pack("<Q", entry)
            for number in range(6):  # cs ds es fs gs ss: base, limit, selector, type, present dpl db s l g avl
                flags = (11, 1, 0, 0, 1, 1, 1, 0) if number == 0 else (3, 1, 0, 1, 1, 0, 1, 0)
                selector = 8 if number == 0 else 16
                struct.pack_into("<QIH8B", sregs, number * 24, 0, 0xFFFFFFFF, selector, *flags)
            # cr0: PE MP ET NE WP AM PG; cr3; cr4: PAE OSFXSR OSXMMEXCPT; efer: LME LMA
            struct.pack_into("<QQQQQQ", sregs, 224, 0x80050033, 0, _PML4, 0x620, 0, 0x500)
        else:
            struct.pack_into("<QIH", sregs, 0, 0, 0xFFFF, 0)
        fcntl.ioctl(self._cpu, _SET_SREGS, bytes(sregs))
        # rax rbx … rip rflags: two and two, which real mode adds
        fcntl.ioctl(self._cpu, _SET_REGS, struct.pack("<18Q", 2, 2, *[0] * 14, _CODE, 2))

    def output(self) -> bytes:
        """Run to the halt; the bytes that were written to the port.

        Raises:
            No: the guest left in another way.
        """
        written = b""
        while True:
            fcntl.ioctl(self._cpu, _RUN, 0)
            (reason,) = struct.unpack_from("<I", self._run, _EXIT_REASON)
            if reason == _EXIT_HLT:
                return written
            direction, size, port, count, offset = struct.unpack_from("<BBHIQ", self._run, _IO)
            if reason != _EXIT_IO or (direction, size, port, count) != (1, 1, _PORT, 1) or written:
                raise No(f"a guest left with exit reason {reason}")
            written += self._run[offset : offset + 1]


def probe(device: str = DEVICE) -> None:
    """Run both guests.

    Raises:
        No: one failed, and how.
        OSError: the kernel refused a step.
    """
    kvm = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    version = fcntl.ioctl(kvm, _GET_API_VERSION, 0)
    if version != _API_VERSION:
        raise No(f"its interface has version {version}, not {_API_VERSION}")
    for mode, code, output in (("real", _REAL, b"4"), ("long", _LONG, b"K")):
        machine = Machine(kvm)
        machine.load(code, long=mode == "long")
        found = machine.output()
        if found != output:
            raise No(f"a guest in {mode} mode computed wrongly")
    if machine.memory[_SCRATCH : _SCRATCH + len(_EXPECTED)] != _EXPECTED:
        raise No("a guest in long mode left wrong results in its memory")


def main() -> None:
    """Print the verdict."""
    try:
        probe(*sys.argv[1:])
    except No as e:
        print(f"no: {e}")
    except OSError as e:
        # Another hypervisor has the processor, or memory is short: that passes.
        passing = e.errno in (errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
        print(f"no: {'for now ' if passing else ''}the kernel refuses to run a guest ({e.strerror})")
    else:
        print("yes")


if __name__ == "__main__":
    main()
