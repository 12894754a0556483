"""What tells a service manager that an app is ready, in a rootfs that has nothing to do so: a static program."""

from __future__ import annotations

import struct

_CODE = bytes.fromhex(
    "488b742410"  # mov rsi, [rsp+16]: the socket's path
    "488b6c2418"  # mov rbp, [rsp+24]: the message
    "4881ec00010000"  # sub rsp, 256
    "4889e7"  # mov rdi, rsp
    "66b80100"  # mov ax, AF_UNIX
    "66ab"  # stosw
    "ac"  # copy: lodsb
    "aa"  # stosb
    "84c0"  # test al, al
    "75fa"  # jnz copy
    "4989f9"  # mov r9, rdi
    "4989e0"  # mov r8, rsp: the address
    "4d29c1"  # sub r9, r8: its length
    "b829000000"  # mov eax, SYS_socket
    "bf01000000"  # mov edi, AF_UNIX
    "be02000000"  # mov esi, SOCK_DGRAM
    "31d2"  # xor edx, edx
    "0f05"  # syscall
    "89c7"  # mov edi, eax
    "4889ee"  # mov rsi, rbp
    "31d2"  # xor edx, edx
    "803c1600"  # count: cmp byte [rsi+rdx], 0
    "8d5201"  # lea edx, [rdx+1]
    "75f7"  # jne count
    "ffca"  # dec edx
    "4531d2"  # xor r10d, r10d
    "b82c000000"  # mov eax, SYS_sendto
    "0f05"  # syscall
    "48c1e83f"  # shr rax, 63
    "89c7"  # mov edi, eax: 0, or 1 if it failed
    "b8e7000000"  # mov eax, SYS_exit_group
    "0f05"  # syscall
)
_AT, _HEADERS = 0x400000, 64 + 56


def program() -> bytes:
    """An ELF file for x86-64 that sends its second argument to the datagram socket which its first one names."""
    size = _HEADERS + len(_CODE)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, _AT + _HEADERS, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _AT, _AT, size, size, 4096)  # all of the file, read and executed
    return ident + header + segment + _CODE


def placed(path: str) -> str:
    """A shell command that makes the program at `path`."""
    octal = "".join(f"\\{byte:03o}" for byte in program())
    return f"printf '{octal}' >{path}; chmod +x {path}"
