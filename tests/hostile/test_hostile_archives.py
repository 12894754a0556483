"""Archives that try to leave their root, to exhaust the host, or to mean different things to different readers.

Faults 35, 36 and 37. Each is refused, or unpacked harmlessly; what is outside the root never changes.
"""

# ruff: noqa: E501  (a table: one case a line)

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import resource
import stat
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from hostile.tarfiles import END, entry, folder, hard, header, link, long_name, pax
from podium.errors import BadInput, LimitExceeded
from podium.linux.tree import remove_tree
from podium.store.limits import Limits
from podium.store.unpack import content
from podium.store.unpack.extract import Extractor
from podium.store.unpack.reading import Reading

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners and devices need root")

LIMITS = Limits(max_bytes=8 << 20, max_entries=2000, max_apparent=1 << 30, ratio_from=1 << 20)
PAYLOAD = b"hostile\n"
DEEP = "/".join(["d"] * 100)


class Case(NamedTuple):
    """`layers` are applied in order; `check` looks at the root of one that is not refused."""

    name: str
    layers: tuple[bytes, ...]
    refused: type[BadInput] | None
    check: Callable[[str], Any] | None = None


def refused(name: str, *layers: bytes, by: type[BadInput] = BadInput) -> Case:
    return Case(name, layers, by)


def harmless(name: str, *layers: bytes, check: Callable[[str], Any] | None = None) -> Case:
    return Case(name, layers, None, check)


def is_in_root(path: str) -> Callable[[str], bool]:
    return lambda root: os.path.isfile(os.path.join(root, path)) and not os.path.islink(os.path.join(root, path))


def reads(path: str, content: bytes = PAYLOAD) -> Callable[[str], bool]:
    def check(root: str) -> bool:
        with open(os.path.join(root, path), "rb") as f:
            return f.read() == content

    return check


def absent(path: str) -> Callable[[str], bool]:
    return lambda root: not os.path.lexists(os.path.join(root, path))


def link_to(path: str, target: str) -> Callable[[str], bool]:
    return lambda root: os.readlink(os.path.join(root, path)) == target


def kind(path: str, is_kind: Callable[[int], bool]) -> Callable[[str], bool]:
    return lambda root: is_kind(os.lstat(os.path.join(root, path)).st_mode)


EVIL = entry("escape/evil", PAYLOAD)
OUT = "../outside"  # beside the root

CASES = [
    # names
    refused("dotdot", entry("../evil", PAYLOAD)),
    refused("dotdot-inside", entry("a/../../evil", PAYLOAD)),
    refused("dotdot-that-stays", folder("a"), entry("a/../b", PAYLOAD)),
    refused("dotdot-at-the-end", folder("a/..")),
    refused("dotdot-by-pax", pax({"path": "../../evil"}), entry("good", PAYLOAD)),
    refused("dotdot-by-gnu-long-name", long_name(b"../" * 40 + b"evil"), entry("good", PAYLOAD)),
    refused("dotdot-by-ustar-prefix", header("evil", raw={345: b".."})),
    refused("dotdot-folder", folder("..")),
    harmless("absolute", entry("/outside/evil", PAYLOAD), check=is_in_root("outside/evil")),
    harmless("absolute-twice", entry("//outside//evil", PAYLOAD), check=is_in_root("outside/evil")),
    harmless("dots", entry("./././evil", PAYLOAD), check=is_in_root("evil")),
    harmless("backslashes", entry("..\\..\\evil", PAYLOAD), check=is_in_root("..\\..\\evil")),
    harmless("newline-and-bytes", entry(b"a\nb\xff\xfe", PAYLOAD), check=lambda r: os.listdir(os.fsencode(r)) == [b"a\nb\xff\xfe"]),
    refused("zero-byte-by-pax", pax({"path": b"good\0../evil"}), entry("x", PAYLOAD)),
    refused("empty-name-file", entry("", PAYLOAD)),
    refused("root-is-a-file", pax({"path": "."}), entry("x", PAYLOAD)),
    refused("root-is-a-link", link("./", "/")),
    refused("root-is-a-hard-link", folder("a"), hard(".", "a")),
    refused("component-too-long", pax({"path": "n" * 300}), entry("x", PAYLOAD)),
    refused("path-too-long", pax({"path": "n/" * 3000 + "x"}), entry("x", PAYLOAD), by=LimitExceeded),
    # symbolic links
    harmless("link-to-outside-then-file", link("escape", OUT), EVIL, check=absent("../outside/evil")),
    harmless("absolute-link-then-file", link("escape", "/outside"), EVIL, check=is_in_root("outside/evil")),
    harmless("link-to-slash-then-file", link("escape", "/"), EVIL, check=is_in_root("evil")),
    harmless("link-to-dotdots-then-file", link("escape", "../" * 30), EVIL, check=is_in_root("evil")),
    harmless("link-chain-then-file", link("a", ".."), link("b", "a/.."), link("escape", "b/outside"), EVIL),
    harmless("link-through-folder", folder("d"), link("d/up", "../.."), link("escape", "d/up/outside"), EVIL),
    refused("link-loop", link("escape", "escape2"), link("escape2", "escape"), EVIL),
    refused("link-to-itself", link("escape", "escape"), EVIL),
    refused("link-to-proc-self-root", link("escape", "/proc/self/root/outside"), entry("escape/x/y/../z", PAYLOAD)),
    harmless("file-over-link", link("evil", OUT + "/sentinel"), entry("evil", PAYLOAD), check=is_in_root("evil")),
    harmless("folder-over-link", link("escape", OUT), folder("escape", mode=0o777), EVIL, check=is_in_root("escape/evil")),
    harmless("fifo-over-link", link("x", OUT + "/sentinel"), header("x", "6"), check=kind("x", stat.S_ISFIFO)),
    harmless("mode-through-link", link("x", OUT + "/sentinel"), header("x", "2", link=OUT + "/sentinel", mode=0o4777)),
    harmless("owner-through-link", link("x", OUT + "/sentinel", uid=1234, gid=1234)),
    harmless("dot-becomes-link", folder("."), link("a", "."), entry("a/a/a/b", PAYLOAD), check=is_in_root("b")),
    harmless("legal-absolute-link", link("bin/sh", "/bin/busybox"), check=link_to("bin/sh", "/bin/busybox")),
    harmless("legal-climbing-link", link("etc/mtab", "../proc/self/mounts"), check=link_to("etc/mtab", "../proc/self/mounts")),
    harmless("very-long-target", long_name(b"t" * 3000, "K"), link("x", "t"), check=link_to("x", "t" * 3000)),
    refused("target-too-long", long_name(b"t" * 5000, "K"), link("x", "t"), by=LimitExceeded),
    refused("empty-target", link("x", "")),
    refused("chain-beyond-the-kernel's", *(link(f"l{i}", f"l{i + 1}") for i in range(45)), entry("l0/evil", PAYLOAD)),
    # hard links
    refused("hard-link-out", hard("x", OUT + "/sentinel")),
    refused("hard-link-to-absolute", hard("x", "/etc/passwd")),
    refused("hard-link-by-pax", pax({"linkpath": "../outside/sentinel"}), hard("x", "good")),
    refused("hard-link-through-link", link("escape", OUT), hard("x", "escape/sentinel")),
    harmless("hard-link-to-link", link("l", OUT + "/sentinel"), hard("x", "l"), check=link_to("x", OUT + "/sentinel")),
    harmless("write-through-hard-link-to-link", link("l", OUT + "/sentinel"), hard("x", "l"), entry("x", PAYLOAD), check=is_in_root("x")),
    refused("hard-link-to-nothing", hard("x", "nothing")),
    refused("hard-link-to-folder", folder("d"), hard("x", "d")),
    refused("hard-link-to-root", hard("x", ".")),
    refused("hard-link-without-target", hard("x", "")),
    harmless("hard-link-to-itself", entry("x", PAYLOAD), hard("x", "x"), check=reads("x")),
    harmless("hard-link-of-old-size", entry("x", PAYLOAD), hard("y", "x", size=8), entry("z", b"z"), check=reads("y")),
    # devices and the like
    harmless("device", header("sda", "4", device=(8, 0), mode=0o666), check=kind("sda", stat.S_ISBLK)),
    harmless("overlay-whiteout-device", header("gone", "3", device=(0, 0)), check=kind("gone", stat.S_ISCHR)),
    refused("device-number-out-of-range", header("x", "3", device=(1 << 18, 0))),
    harmless("fifo", header("pipe", "6"), check=kind("pipe", stat.S_ISFIFO)),
    harmless("setuid", entry("su", PAYLOAD, mode=0o6755), check=lambda r: os.stat(r + "/su").st_mode & 0o7777 == 0o6755),
    refused("device-with-content", entry("null", b"x" * 512, "3", device=(1, 3))),
    refused("folder-with-content", entry("d", b"x" * 512, "5")),
    refused("link-with-content", entry("l", b"x" * 512, "2", link="t")),
    refused("unknown-kind", entry("x", PAYLOAD, "Z")),
    refused("multi-volume", entry("x", PAYLOAD, "M")),
    refused("owner-that-means-unchanged", entry("x", PAYLOAD, uid=0xFFFFFFFF)),
    refused("negative-owner", pax({"uid": "-1"}), entry("x", PAYLOAD)),
    harmless("overlay-redirect-xattr", pax({"SCHILY.xattr.trusted.overlay.redirect": "/etc"}), folder("d"), check=lambda r: os.listxattr(r + "/d") == []),
    harmless("overlay-opaque-xattr", pax({"SCHILY.xattr.user.overlay.opaque": "y"}), folder("d"), check=lambda r: os.listxattr(r + "/d") == []),
    refused("broken-capability-xattr", pax({"SCHILY.xattr.security.capability": "x"}), entry("f", PAYLOAD)),
    # parents
    refused("file-as-folder", entry("f", PAYLOAD), entry("f/evil", PAYLOAD)),
    harmless("file-replaces-full-folder", entry("d/x", PAYLOAD), entry("d", PAYLOAD), check=reads("d")),
    harmless("folder-replaces-file", entry("d", PAYLOAD), folder("d"), entry("d/x", PAYLOAD), check=reads("d/x")),
    harmless("folder-replaced-by-link", entry("d/x", PAYLOAD), link("d", OUT), entry("d/evil", PAYLOAD)),
    harmless("link-replaced-by-folder", link("d", OUT), entry("d/a", b"1"), folder("d"), entry("d/b", PAYLOAD), check=reads("d/b")),
    harmless("missing-parents", entry("a/b/c", PAYLOAD), check=lambda r: stat.S_IMODE(os.stat(r + "/a").st_mode) == 0o755),
    # whiteouts
    harmless("whiteout-through-link", link("escape", OUT), entry("escape/.wh.sentinel")),
    harmless("opaque-through-link", link("escape", OUT), entry("escape/.wh..wh..opq")),
    harmless("opaque-on-absolute-link", link("escape", "/"), entry("escape/.wh..wh..opq")),
    refused("whiteout-of-dot", folder("d"), entry("d/.wh..")),
    refused("whiteout-of-dotdot", folder("d"), entry("d/.wh...")),
    refused("whiteout-of-nothing", folder("d"), entry("d/.wh.")),
    refused("whiteout-that-climbs", folder("d"), entry("d/../.wh.outside")),
    harmless("whiteout-of-what-is-not-there", folder("d"), entry("d/.wh.x")),
    harmless("aufs-bookkeeping", folder("d"), entry(".wh..wh.plnk"), check=absent(".wh..wh.plnk")),
    # order of whiteouts, fault 36
    harmless("opaque-before", entry("d/low", b"1"), folder("d") + entry("d/.wh..wh..opq") + entry("d/up", PAYLOAD),
             check=lambda r: os.listdir(r + "/d") == ["up"]),
    harmless("opaque-after", entry("d/low", b"1"), folder("d") + entry("d/up", PAYLOAD) + entry("d/.wh..wh..opq"),
             check=lambda r: os.listdir(r + "/d") == ["up"]),
    harmless("whiteout-before-new", entry("f", b"1"), entry(".wh.f") + entry("f", PAYLOAD), check=reads("f")),
    harmless("whiteout-after-new", entry("f", b"1"), entry("f", PAYLOAD) + entry(".wh.f"), check=reads("f")),
    harmless("whiteout-after-new-in-folder", entry("d/low", b"1"), folder("d") + entry("d/up", PAYLOAD) + entry(".wh.d"),
             check=lambda r: os.listdir(r + "/d") == ["up"]),
    harmless("whiteout-of-hard-link's-target", entry("a", PAYLOAD), hard("b", "a") + entry(".wh.a"), check=lambda r: os.listdir(r) == ["b"]),
    # sizes that lie
    refused("cut-off", header("x", size=5000) + b"short"),
    refused("negative-size", header("x", size=-1)),
    refused("size-of-exabytes", header("x", size=1 << 62), by=LimitExceeded),
    refused("size-by-pax", pax({"size": "9" * 18}), entry("x", PAYLOAD), by=LimitExceeded),
    refused("size-that-is-none", pax({"size": "-5"}), entry("x", PAYLOAD)),
    refused("huge-extended-header", header("x", "x", size=1 << 40), by=LimitExceeded),
    refused("huge-long-name", header("x", "L", size=1 << 40), by=LimitExceeded),
    refused("pax-length-wrong", entry("pax", b"999 path=x\n", "x") + entry("y")),
    refused("pax-without-length", entry("pax", b"path=x\n", "x") + entry("y")),
    refused("ends-after-extended-header", pax({"path": "x"}) + END),
    refused("no-archive", b"this is no archive" * 100),
    refused("checksum", header("x")[:500] + b"x" * 12),
    refused("digits-that-are-none", header("x", raw={124: b"99999999999\0"})),
    refused("time-out-of-range", header("x", raw={136: b"\xc0" + b"\xff" * 11})),
    # bombs, fault 37
    refused("too-many-bytes", b"".join(entry(f"f{i}", bytes(1 << 20)) for i in range(9)), by=LimitExceeded),
    refused("too-many-entries", b"".join(header(f"f{i}") for i in range(2100)), by=LimitExceeded),
    refused("too-many-implied-folders", b"".join(entry(f"{i}/{DEEP}/f") for i in range(30)), by=LimitExceeded),
    refused("too-deep", pax({"path": "d/" * 300 + "f"}), entry("x", PAYLOAD), by=LimitExceeded),
    refused("too-deep-by-links", *(layer for i in range(5) for layer in (folder(f"l{i}/{DEEP}"), link(f"l{i + 1}", f"l{i}/{DEEP}"))), by=LimitExceeded),
    refused("sparse-1.0-of-exabytes", pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s", "GNU.sparse.realsize": str(1 << 62)}), entry("x", b"0\n".ljust(512, b"\0")), by=LimitExceeded),
    refused("sparse-1.0-map-of-10^7", pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s", "GNU.sparse.realsize": "100"}), entry("x", b"10000000\n".ljust(512, b"\0")), by=LimitExceeded),
    refused("sparse-1.0-map-without-end", pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s", "GNU.sparse.realsize": "100"}), entry("x", b"1" * 4096)),
    refused("sparse-map-out-of-order", pax({"GNU.sparse.size": "100", "GNU.sparse.map": "50,1,10,1"}), entry("x", b"ab")),
    refused("sparse-map-beyond-end", pax({"GNU.sparse.size": "10", "GNU.sparse.map": "50,2"}), entry("x", b"ab")),
    refused("sparse-map-unlike-content", pax({"GNU.sparse.size": "100", "GNU.sparse.map": "0,1"}), entry("x", b"ab")),
    refused("sparse-name-that-climbs", pax({"GNU.sparse.size": "2", "GNU.sparse.map": "0,2", "GNU.sparse.name": "../evil"}), entry("x", b"ab")),
    refused("old-sparse-without-end", header("s", "S", size=0, raw={482: b"\1"}) + b"\1" * 512 * 8),
    harmless("sparse-legal", pax({"GNU.sparse.size": "1000000", "GNU.sparse.map": "999992,8"}), entry("s", PAYLOAD), check=lambda r: os.stat(r + "/s").st_size == 1_000_000 and os.stat(r + "/s").st_blocks < 64),
]  # fmt: skip


def apply(root: str, layers: tuple[bytes, ...], limits: Limits = LIMITS) -> None:
    with tempfile.TemporaryDirectory() as beside:
        archives = []
        for number, layer in enumerate(joined(layers)):
            archives.append(os.path.join(beside, str(number)))
            with open(archives[-1], "wb") as f:
                f.write(layer)
        with Extractor(root, limits) as extractor, Reading(archives, limits) as reading:
            for _ in archives:
                extractor.layer(reading, hides=True)
            extractor.finish()
    assert content.digest(root, limits, extractor.digests) == content.digest(root, limits)


def most_memory() -> int:
    """KiB that this process held at most, or one that it started: the one that reads archives begins as its copy."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def joined(layers: tuple[bytes, ...]) -> list[bytes]:
    """What is written as several entries is one layer, unless a later one has whiteouts."""
    first: list[bytes] = []
    for number, layer in enumerate(layers):
        if number and b".wh." in layer:
            return [b"".join(first) + END, *(rest + END for rest in layers[number:])]
        first.append(layer)
    return [b"".join(first)]


def everything(folder: str) -> list[tuple[Any, ...]]:
    """What must not change: all below a folder, with content."""
    found: list[tuple[Any, ...]] = []
    for path, names, files in os.walk(folder):
        for name in [*names, *files, "."]:
            full = os.path.join(path, name)
            st = os.lstat(full)
            content = b""
            if stat.S_ISREG(st.st_mode):
                with open(full, "rb") as f:
                    content = f.read()
            found.append((full, st.st_mode, st.st_uid, st.st_gid, st.st_nlink, st.st_size, st.st_mtime_ns, content))
    return sorted(found)


@pytest.fixture
def yard(test_dir: str) -> str:
    """A folder with a root to unpack into, and something outside of it that must stay as it is."""
    os.makedirs(os.path.join(test_dir, "outside/sub"))
    for name in ("sentinel", "sub/other"):
        with open(os.path.join(test_dir, "outside", name), "wb") as f:
            f.write(b"untouched\n")
    os.mkdir(os.path.join(test_dir, "root"))
    return test_dir


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_35_36_37_hostile_archive_is_refused_or_harmless(case: Case, yard: str) -> None:
    root, outside = os.path.join(yard, "root"), os.path.join(yard, "outside")
    before = everything(outside)
    if case.refused is not None:
        with pytest.raises(case.refused) as caught:
            apply(root, case.layers)
        assert caught.value.message
    else:
        apply(root, case.layers)
        assert case.check is None or case.check(root)
    assert everything(outside) == before
    assert sorted(os.listdir(yard)) == ["outside", "root"]
    remove_tree(yard, "root")


def test_35_there_are_enough_of_them() -> None:
    assert len(CASES) >= 60
    assert len({c.name for c in CASES}) == len(CASES)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress], ids=["gzip", "bzip2", "xz"])
def test_37_compressed_bomb_costs_neither_memory_nor_disk(compress: Callable[[bytes], bytes], yard: str) -> None:
    bomb = compress(header("zeros", size=1 << 26) + bytes(1 << 26))
    before = most_memory()
    limits = LIMITS._replace(max_bytes=32 << 20, ratio_from=1 << 20, max_ratio=100)
    with pytest.raises(LimitExceeded):
        apply(os.path.join(yard, "root"), (bomb,), limits)
    assert most_memory() - before < 64 << 10  # KiB
    assert (
        sum(os.stat(os.path.join(yard, "root", n)).st_size for n in os.listdir(os.path.join(yard, "root"))) < 33 << 20
    )


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress], ids=["gzip", "bzip2", "xz"])
def test_37_cut_or_damaged_compression_is_refused(compress: Callable[[bytes], bytes], yard: str) -> None:
    good = compress(entry("f", os.urandom(50_000)) + END)
    apply(os.path.join(yard, "root"), (good,))
    damaged = bytearray(good)
    damaged[len(good) // 2] ^= 0xFF
    for bad in (good[: len(good) // 2], good[:-3], bytes(damaged), good + b"trailing"):
        with pytest.raises(BadInput):
            apply(os.path.join(yard, "root"), (bad,))


def test_37_entries_without_content_are_read_in_flat_memory(yard: str) -> None:
    path = os.path.join(yard, "endless.tar.gz")
    with gzip.open(path, "wb", 1) as f:
        for _ in range(200):
            f.write(header("same") * 1000)
    before = most_memory()
    limits = Limits(max_entries=10_000)
    with Extractor(os.path.join(yard, "root"), limits) as extractor, Reading([path], limits) as reading:  # noqa: SIM117
        with pytest.raises(LimitExceeded):
            extractor.layer(reading)
    assert most_memory() - before < 64 << 10  # KiB
