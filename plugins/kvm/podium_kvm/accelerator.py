"""Which accelerator a machine gets: the kernel's KVM where it proves that it works, else QEMU's own emulation (TCG)."""

from __future__ import annotations

import os

from podium.errors import BadInput, HostLacks
from podium.linux.files import write_atomic
from podium.types import Record

AUTO, KVM, TCG = WORDS = ("auto", "kvm", "tcg")
DEVICE = "/dev/kvm"
OTHERWISE = 'set accel = "auto" or "tcg"'
_TIME_LIMIT = 5.0  # seconds; a good one needs 0.3, a loaded or nested host more
_PASSING = "for now "  # how the probe begins a reason that may be gone the next time
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Accelerator(Record):
    """What was chosen.

    Attributes:
        name: kvm or tcg.
        reason: why, for people.
    """

    name: str
    reason: str


def choose(data_root: str, asked: str) -> Accelerator:
    """The accelerator for `auto`, `kvm` or `tcg`.

    Raises:
        BadInput: it is another word.
        HostLacks: kvm was asked for, and it does not work here.
    """
    check_word(asked)
    if asked == TCG:
        return Accelerator(name=TCG, reason="asked for")
    usable, reason = probe(data_root)
    if usable:
        return Accelerator(name=KVM, reason=reason)
    if asked == KVM:
        raise HostLacks(f"KVM can't be used: {reason}", hint=OTHERWISE, subject=DEVICE)
    return Accelerator(name=TCG, reason=f"KVM can't be used: {reason}")


def check_word(asked: str) -> None:
    """Raise BadInput if there is no accelerator of that name."""
    if asked not in WORDS:
        raise BadInput(f"no accelerator is called '{asked}'", hint=f"one of {', '.join(WORDS)}", subject=asked)


def probe(data_root: str) -> tuple[bool, str]:
    """Whether KVM works here, and why not. What a guest showed is kept for this boot, in cache/kvm.

    A device that is missing or didn't answer in time is looked at again each time.
    """
    try:
        device = os.stat(DEVICE)
    except OSError as e:
        return False, f"{DEVICE}: {e.strerror}"
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return False, f"{DEVICE}: no permission"
    key = _key(device)
    path = _place(data_root)
    known = _read(path, key)
    if known is not None:
        return known
    verdict = ask()
    if verdict is None:
        return False, f"a guest did not end within {_TIME_LIMIT:.0f} s"
    if not verdict[1].startswith(_PASSING):
        _write(path, key, verdict)
    return verdict


def distrust(data_root: str, reason: str) -> None:
    """Record that a guest did not boot with KVM though the probe had passed: the next is not to wait for it again."""
    try:
        _write(_place(data_root), _key(os.stat(DEVICE)), (False, reason))
    except OSError:
        pass  # the device is gone


def _place(data_root: str) -> str:
    return os.path.join(data_root, "cache", "kvm")


def ask(limit: float = _TIME_LIMIT, program: str | None = None) -> tuple[bool, str] | None:
    """Let a process of its own run guests; None if it didn't end in time.

    Args:
        limit: seconds until it is killed.
        program: the probe; the one beside this module, unless a test has another.
    """
    import subprocess
    import sys

    program = program or os.path.join(os.path.dirname(__file__), "probe.py")
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", program],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )
    try:
        said = child.communicate(timeout=limit)[0].decode("utf-8", "replace").strip()
    except subprocess.TimeoutExpired:
        child.kill()
        try:
            child.communicate(timeout=1)
        except subprocess.TimeoutExpired:
            pass  # in the kernel, where no signal reaches it; it ends when KVM_RUN returns
        return None
    if child.returncode == 0 and said == "yes":
        return True, "a guest ran"
    return False, said.removeprefix("no: ") if said.startswith("no: ") else f"the probe ended with {child.returncode}"


def _key(device: os.stat_result) -> str:
    """This boot, this device, and the modules behind it: another of them deserves another look."""
    with open(_BOOT_ID, encoding="ascii") as f:
        boot = f.read().strip()
    try:
        modules = sorted(name for name in os.listdir("/sys/module") if name.startswith("kvm"))
    except FileNotFoundError:
        modules = []
    return " ".join([boot, str(device.st_rdev), str(device.st_ctime_ns), *modules])


def _read(path: str, key: str) -> tuple[bool, str] | None:
    try:
        with open(path, encoding="utf-8") as f:
            lines = f.read().split("\n")
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    if len(lines) != 4 or lines[0] != key or lines[1] not in ("yes", "no"):
        return None
    return lines[1] == "yes", lines[2]


def _write(path: str, key: str, verdict: tuple[bool, str]) -> None:
    try:
        write_atomic(path, f"{key}\n{'yes' if verdict[0] else 'no'}\n{verdict[1]}\n".encode(), durable=False)
    except OSError:
        pass  # it is asked again next time
