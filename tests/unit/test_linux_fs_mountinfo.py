from __future__ import annotations

import pytest

from podium.linux import mount, syscalls


def test_line_of_mountinfo_is_taken_apart() -> None:
    line = "36 35 98:0 /sub /mnt rw,noatime shared:1 master:2 - ext3 /dev/root rw,errors=continue"
    entry = mount._entry(line)
    assert entry == (
        36,
        35,
        "98:0",
        "/sub",
        "/mnt",
        "rw,noatime",
        "shared:1 master:2",
        "ext3",
        "/dev/root",
        "rw,errors=continue",
    )


@pytest.mark.parametrize(
    ("line", "target", "source", "options"),
    [
        (r"1 1 0:1 / /a\040b\011c\012d\134e\043f rw - tmpfs none rw", "/a b\tc\nd\\e#f", "none", "rw"),
        ("1 1 0:1 / /- rw - tmpfs - rw", "/-", "-", "rw"),
        ("1 1 0:1 / /a rw - tmpfs  rw", "/a", "", "rw"),
        ("1 1 0:1 / /a rw - fuse none rw,x=a b", "/a", "none", "rw,x=a b"),
        ("1 1 0:1 / /a\x0b\x85\u2028b rw - tmpfs none rw", "/a\x0b\x85\u2028b", "none", "rw"),
        (r"1 1 0:1 / /a rw - overlay none rw,lowerdir=/l\134:x", "/a", "none", r"rw,lowerdir=/l\:x"),
    ],
)
def test_escapes_and_odd_fields(line: str, target: str, source: str, options: str) -> None:
    entry = mount._entry(line)
    assert (entry.target, entry.source, entry.super_options) == (target, source, options)


def test_mounts_below_is_by_component() -> None:
    targets = ["/", "/a", "/ab", "/a/b", "/a/b/c", "/x/a"]
    entries = [mount._entry(f"{n} 1 0:1 / {target} rw - tmpfs none rw") for n, target in enumerate(targets)]
    assert [entry.target for entry in mount.mounts_below("/a", entries)] == ["/a", "/a/b", "/a/b/c"]
    assert [entry.target for entry in mount.mounts_below("/a/", entries)] == ["/a", "/a/b", "/a/b/c"]
    assert [entry.target for entry in mount.mounts_below("/", entries)] == targets


def test_a_zero_byte_never_shortens_a_path() -> None:
    with pytest.raises(ValueError, match="zero byte"):
        syscalls.umount2("/nowhere\0/else")


def test_an_error_names_call_and_path() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        syscalls.umount2("/nowhere")
    assert caught.value.filename == "/nowhere"
    assert "umount2" in str(caught.value)
