"""What a person sees of long work with images: a bar on a real terminal, and nothing elsewhere."""

from __future__ import annotations

import os

from support.command import Podium
from support.terminal import Screen


def shown(podium: Podium, *words: str, verb: str = "image") -> str:
    screen = Screen(podium.argv(verb, *words), podium.environment())
    try:
        assert screen.end() == 0, screen.shown
    finally:
        screen.close()
    return screen.shown


def test_import_and_export_show_a_bar_on_a_terminal(podium: Podium, test_dir: str) -> None:
    root = os.path.join(test_dir, "root")
    os.makedirs(os.path.join(root, "etc"))
    for number in range(2000):
        with open(os.path.join(root, "etc", str(number)), "wb") as f:
            f.write(os.urandom(8192))
    packed, out = os.path.join(test_dir, "in.oci"), os.path.join(test_dir, "out.oci")
    folder = shown(podium, "import", root, "--name", "big:1")
    assert f"importing {root} " in folder
    assert " files" in folder  # while it is unpacked
    assert "exporting big:1 " in shown(podium, "export", "big:1", packed)
    podium("image", "rm", "big:1")
    archive = shown(podium, "import", packed, "--name", "again:1")
    assert f"importing {packed} [" in archive  # how much there is is known
    assert "%" in archive
    assert "exporting again:1 " in shown(podium, "export", "again:1", out)
    for text in (folder, archive):
        assert text.replace("\r\n", "").rpartition("\r")[2].startswith("\x1b[K")  # the bar is wiped
    podium("image", "rm", "again:1")
    run = shown(podium, "--stage1", "fly", "--net", "host", packed, "--exec", "/nothing", verb="prepare")
    assert f"getting {packed} [" in run
    wiped, _, uuid = run.rpartition("\r\x1b[K")  # before anything else is said
    assert "getting" in wiped and len(uuid.strip()) == 36
    podium("image", "import", packed, "--name", "again:1")
    quiet = podium("image", "export", "again:1", out + "2")
    assert quiet.stderr == ""
