"""The store under concurrency, kills, damage and collection; what a pod refers to stays."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from podium import records
from podium.errors import Ambiguous, BadInput, BadUsage, Corrupt, InUse, NotFound
from podium.features import Features
from podium.images.importing import import_path
from podium.paths import EXITED_GARBAGE, PREPARED, RUN, DataDir
from podium.pods import envelope
from podium.store import migrations, verifying
from podium.store.image import Image
from podium.store.limits import Limits
from podium.store.store import Store
from support import oci

IMPORT = """
import sys
from podium.images.importing import import_path
from podium.paths import DataDir
from podium.store.store import Store
print(import_path(Store(DataDir(sys.argv[1])), sys.argv[2]).id)
"""


def layout(work: str, name: str, tag: str = "latest", files: int = 3) -> str:
    path = os.path.join(work, name)
    base = oci.layer([("base", b"the same in all of them")])
    own = oci.layer([(f"{name}-{i}", name.encode() * 1000) for i in range(files)])
    oci.write_layout(path, [base, own], {"Cmd": ["/x"]}, tag=f"{name}:{tag}")
    return path


def importer(store: Store, path: str, **environment: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", IMPORT, store.data.root, path]
    return subprocess.Popen(argv, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)


def contents(store: Store) -> dict[str, list[str]]:
    folders = (store.data.blobs, store.data.trees, store.data.images, store.data.tmp)
    return {os.path.basename(f): sorted(os.listdir(f)) for f in folders}


def make_pod(store: Store, image: Image, phase: str, name: str | None = None) -> str:
    uuid = "12345678-1234-4234-8234-123456789012"
    os.makedirs(store.data.pod(phase, uuid))
    code = envelope.Stage1("fly", "1", 1, 1, "sha256:" + "0" * 64, "sha256-" + "0" * 64, "x", "podium")
    made = envelope.Envelope(
        uuid, name, "2026-01-01T00:00:00.000Z", code, (), (image.tree,), (image.id,), {}, Features(), "podium test"
    )
    envelope.write(store.data.pod(phase, uuid), made)
    return uuid


def test_concurrent_imports_do_the_work_once(store: Store, work: str) -> None:
    path, log = layout(work, "a", files=50), os.path.join(work, "log")
    children = [importer(store, path, PODIUM_TRACE_LOG=log) for _ in range(6)]
    outputs = {child.communicate()[0] for child in children}
    assert [child.returncode for child in children] == [0] * 6
    assert len(outputs) == 1
    with open(log, encoding="utf-8") as f:
        points = f.read().split()
    assert (points.count("tree:unpacked"), points.count("tree:rendered")) == (1, 1)
    assert points.count("import:recorded") == 6
    assert contents(store)["tmp"] == []


POINTS = ("import:blobs", "tree:unpacked", "import:synced", "tree:rendered", "image:named", "import:recorded")


@pytest.mark.parametrize("point", POINTS)
def test_18_killed_import_leaves_nothing_that_the_next_does_not_use_or_remove(
    point: str, store: Store, work: str
) -> None:
    path = layout(work, "a")
    child = importer(store, path, PODIUM_TRACE_KILL=point)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    for image in store.images():  # whatever is seen is whole
        assert store.verify([image.id], repair=False)[0].problems == []
    image = import_path(store, path)
    assert contents(store)["tmp"] == []
    assert store.verify()[0].problems == store.verify()[0].repaired == []
    assert store.resolve("a").id == image.id
    collected = store.gc(0)
    assert collected.images == collected.blobs == collected.trees == []
    store.remove("a")
    assert contents(store) == {"sha256": [], "trees": [], "images": [], "tmp": []}


@pytest.mark.parametrize("point", POINTS[:4])
def test_killed_import_is_cleaned_up_by_gc(point: str, store: Store, work: str) -> None:
    importer(store, layout(work, "a"), PODIUM_TRACE_KILL=point).communicate()
    store.gc(0)
    assert contents(store) == {"sha256": [], "trees": [], "images": [], "tmp": []}


def test_gc_leaves_the_workspace_of_who_is_at_work(store: Store, work: str) -> None:
    from podium.store.workspace import Workspace

    with Workspace(store.data) as workspace:
        store.gc(0)
        assert os.path.isdir(workspace.path)
    assert contents(store)["tmp"] == []


def test_half_a_tree_is_not_taken_for_one(store: Store, work: str) -> None:
    image = import_path(store, layout(work, "a"))
    os.unlink(os.path.join(store.data.tree(image.tree), "tree.json"))
    os.unlink(os.path.join(store.data.rootfs(image.tree), "base"))
    assert store.ensure_tree(image) == image.tree
    assert os.path.exists(os.path.join(store.data.rootfs(image.tree), "base"))
    assert contents(store)["tmp"] == []


def test_blobs_are_shared_and_kept_while_one_image_needs_them(store: Store, work: str) -> None:
    one, two = import_path(store, layout(work, "one")), import_path(store, layout(work, "two"))
    shared = {b.digest for b in one.blobs} & {b.digest for b in two.blobs}
    assert len(shared) == 1
    assert store.remove("one") == one.id
    assert store.verify() == [(two.id, "two", [], [])]
    assert len(os.listdir(store.data.blobs)) == len(two.blobs)
    assert os.listdir(store.data.trees) == [two.tree]


@pytest.mark.parametrize("phase", [PREPARED, RUN, EXITED_GARBAGE])
def test_16_image_of_a_pod_in_any_phase_stays(phase: str, store: Store, work: str) -> None:
    image = import_path(store, layout(work, "a"))
    uuid = make_pod(store, image, phase, "web")
    before = contents(store)
    with pytest.raises(InUse, match=rf"used by pod {uuid} \(web\)"):
        store.remove("a")
    store.tag("a", "b")
    import_path(store, layout(work, "other"), name="a")
    import_path(store, os.path.join(work, "other"), name="b")  # now the first has no name
    assert store.resolve(image.id).references == []
    collected = store.gc(0)
    assert (collected.images, collected.trees, collected.blobs) == ([], [], [])
    assert (image.id, "a pod refers to it") in collected.kept
    assert set(before["trees"]) < set(contents(store)["trees"])


def test_16_nothing_is_removed_while_a_pod_can_not_be_read(store: Store, work: str) -> None:
    image = import_path(store, layout(work, "a"))
    uuid = make_pod(store, image, RUN)
    with open(os.path.join(store.data.pod(RUN, uuid), "envelope.json"), "wb") as f:
        f.write(bytes(100))
    with pytest.raises(InUse, match="can't be read"):
        store.remove("a")
    assert store.gc(0).images == []
    assert store.resolve("a") == image


def test_16_removal_waits_for_who_prepares(store: Store, work: str) -> None:
    image = import_path(store, layout(work, "a"))
    code = "import sys; from podium.paths import DataDir; from podium.store.store import Store\n"
    code += "print('started', flush=True); Store(DataDir(sys.argv[1])).remove('a')"
    with store.shared():
        argv = [sys.executable, "-c", code, store.data.root]
        child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert child.stdout is not None and child.stdout.readline() == "started\n"
        make_pod(store, image, PREPARED)
    _, complaint = child.communicate()
    assert child.returncode != 0
    assert "is used by pod" in complaint
    assert store.resolve("a") == image


def test_gc_removes_what_has_no_name_and_was_not_used(store: Store, work: str) -> None:
    old, kept = import_path(store, layout(work, "old"), name="a"), import_path(store, layout(work, "new"), name="a")
    assert (store.resolve("a"), store.resolve(old.id).references) == (kept, [])
    assert store.gc(3600).images == []
    assert store.gc(0, dry_run=True).images == [old.id]
    assert store.resolve(old.id)
    collected = store.gc(0)
    assert (collected.images, collected.trees) == ([old.id], [old.tree])
    assert collected.bytes > 0
    with pytest.raises(NotFound):
        store.resolve(old.id)
    assert store.verify() == [(kept.id, "a", [], [])]


def test_verify_finds_and_repairs_an_altered_tree(store: Store, work: str) -> None:
    image = import_path(store, layout(work, "a"))
    root = store.data.rootfs(image.tree)
    digest = records.read(os.path.join(store.data.tree(image.tree), "tree.json"))["digest"]
    for alter in (
        lambda: os.chmod(f"{root}/base", 0o600),
        lambda: os.chown(f"{root}/base", 1, 1),
        lambda: os.unlink(f"{root}/base"),
        lambda: os.symlink("base", f"{root}/more"),
        lambda: os.setxattr(f"{root}/base", "user.x", b"1"),
        lambda: os.truncate(f"{root}/base", 3),
        lambda: os.unlink(os.path.join(store.data.tree(image.tree), "tree.json")),
    ):
        alter()
        (only_looked,) = store.verify(["a"], repair=False)
        assert len(only_looked.problems) == 1
        (found,) = store.verify(["a"])
        assert (found.problems, len(found.repaired)) == ([], 1)
        assert store.verify() == [(image.id, "a", [], [])]
    assert records.read(os.path.join(store.data.tree(image.tree), "tree.json"))["digest"] == digest
    assert contents(store)["tmp"] == []


def test_verify_tells_a_damaged_blob_and_a_new_import_heals_it(store: Store, work: str) -> None:
    image = import_path(store, layout(work, "a"))
    first, second = (store.data.blob(b.digest[7:]) for b in image.blobs[-2:])
    os.chmod(first, 0o644)
    with open(first, "r+b") as f:
        f.write(b"x")
    os.unlink(second)
    (found,) = store.verify()
    assert [word in p for p, word in zip(found.problems, ("is altered", "is missing"), strict=True)] == [True, True]
    assert not os.path.exists(first)  # set aside, so that a good one takes its place
    import_path(store, os.path.join(work, "a"))
    assert store.verify() == [(image.id, "a", [], [])]


def test_an_image_that_is_removed_meanwhile_is_no_damage(
    store: Store, work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, going = import_path(store, layout(work, "a")), import_path(store, layout(work, "b", files=5))
    verify = verifying.verify

    def slow(data: DataDir, limits: Limits, image: Image, *, repair: bool) -> verifying.Verified:
        if image.id == going.id:  # as another process does
            store.remove(going.id)
            store.gc(0)
        return verify(data, limits, image, repair=repair)

    monkeypatch.setattr(verifying, "verify", slow)
    assert store.verify() == [(kept.id, "a", [], [])]
    import_path(store, os.path.join(work, "b"))
    with pytest.raises(NotFound, match="meanwhile"):
        store.verify([going.id])


def test_20_one_damaged_record_costs_one_image(store: Store, work: str) -> None:
    good, bad = import_path(store, layout(work, "good")), import_path(store, layout(work, "bad"))
    path = store.data.image(bad.hex)
    with open(path, "rb") as f:
        whole = f.read()
    sealed = [records.seal(r) for r in ({"image": 1}, {**bad.record(), "tags": 5}, good.record())]
    cut = [b"", whole[:50], bytes(len(whole)), whole.replace(b"bad", b"bed", 1)]
    for damaged in (*cut, b"[" * 100_000, b"{}", *sealed):
        with open(path, "wb") as f:
            f.write(damaged)
        assert store.images() == [good]
        assert [p.hex for p in store.problems()] == [bad.hex]
        assert [v.id for v in store.verify() if v.problems] == [bad.id]
        assert store.resolve("good") == good
        with pytest.raises(NotFound):
            store.resolve("bad")
        with pytest.raises(Corrupt):
            store.resolve(bad.id)
        collected = store.gc(0)
        assert (collected.images, collected.blobs, collected.trees) == ([], [], [])
    with open(path, "wb") as f:
        f.write(whole[: len(whole) // 2])
    assert store.problems()[0].error.message.endswith("; the image was called bad")  # raw salvage
    import_path(store, os.path.join(work, "bad"))
    assert store.problems() == []


@pytest.mark.parametrize("how", ["lost", "empty", "garbage", "truncated", "newer", "no tables", "folder of links gone"])
def test_22_index_is_only_a_cache(how: str, store: Store, work: str) -> None:
    image = import_path(store, layout(work, "a"))
    with open(store.data.index, "rb") as f:
        whole = f.read()
    os.unlink(store.data.index)
    if how in ("empty", "garbage", "truncated"):
        with open(store.data.index, "wb") as f:
            f.write({"empty": b"", "garbage": os.urandom(9000), "truncated": whole[:5000]}[how])
    elif how in ("newer", "no tables"):
        db = sqlite3.connect(store.data.index)
        db.execute(f"PRAGMA user_version = {migrations.VERSION + (how == 'newer')}")
        db.close()
    else:
        subprocess.run(["rm", "-r", store.data.cache], check=True)
        os.mkdir(store.data.cache)
    assert store.images() == [image]
    assert store.resolve("a") == image
    db = sqlite3.connect(store.data.index)
    if how == "newer":  # it is left to the newer podium
        assert db.execute("PRAGMA user_version").fetchone() == (migrations.VERSION + 1,)
        db.close()
        return
    assert db.execute("PRAGMA user_version").fetchone() == (migrations.VERSION,)
    assert db.execute("SELECT reference, hex FROM names").fetchall() == [("a:latest", image.hex)]
    db.close()


def test_24_migrated_index_equals_a_fresh_one() -> None:
    dumps = []
    for start in range(migrations.VERSION + 1):
        db = sqlite3.connect(":memory:")
        for step in migrations.STEPS[:start]:
            step(db)
        for step in migrations.STEPS[start:]:
            step(db)
        dumps.append(list(db.iterdump()))
        db.close()
    assert all(dump == dumps[0] for dump in dumps)


def test_names_move_and_stale_links_do_no_harm(store: Store, work: str) -> None:
    one, two = import_path(store, layout(work, "one")), import_path(store, layout(work, "two"))
    store.tag("one", "web:1")
    store.tag("one", "web")
    assert store.resolve("web:1").id == store.resolve("web").id == one.id
    store.tag("two", "web")
    assert (store.resolve("web").id, store.resolve("web:1").id) == (two.id, one.id)
    link = os.path.join(store.data.cache, "names", "web:latest")
    os.unlink(link)
    os.symlink(one.hex, link)
    assert store.resolve("web").id == two.id
    os.unlink(link)
    os.symlink("../../nonsense", link)
    assert store.resolve("web").id == two.id
    assert store.remove("web") == two.id  # the name only
    assert store.resolve("two").id == two.id
    with pytest.raises(BadInput):
        store.tag("one", "../x")


def test_33_references_that_are_none_or_fit_several(store: Store, work: str) -> None:
    image = import_path(store, layout(work, "a", "1"))
    import_path(store, layout(work, "b"), name="a:2")
    assert store.resolve(image.hex[:6]).id == store.resolve(image.id[:20]).id == image.id
    with pytest.raises(BadUsage):
        store.resolve("")
    for ref in (image.hex[:5], "f" * 64, "sha256:" + image.hex[:5], " ", "-", "../images/x", "a:3", "A:1", "/", "a/"):
        with pytest.raises(NotFound):
            store.resolve(ref)
    with pytest.raises(Ambiguous, match="a:1, a:2"):
        store.resolve("a")
    for digits in ("1" * 63 + "2", "1" * 63 + "3"):
        with open(store.data.image(digits), "wb") as f:
            f.write(b"x")
    with pytest.raises(Ambiguous):
        store.resolve("111111")


def test_a_short_name_is_told_the_whole_one(store: Store, work: str) -> None:
    import_path(store, layout(work, "a", "1"), name="docker.io/library/web:1")
    with pytest.raises(NotFound) as refused:
        store.resolve("web:1")
    assert refused.value.hint == "there is docker.io/library/web:1; a name is given whole"


def test_28_full_disk_leaves_the_store_as_it_was(store: Store, work: str) -> None:
    path = layout(work, "a", files=400)
    code = "import os, sys, resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    code += "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n" + IMPORT
    argv = [sys.executable, "-c", code, store.data.root, path]
    assert subprocess.run(argv, capture_output=True, check=False).returncode != 0
    assert contents(store) == {"sha256": [], "trees": [], "images": [], "tmp": []}
    assert import_path(store, path)


def test_resolving_costs_two_file_reads(store: Store, work: str) -> None:
    import_path(store, layout(work, "a"))
    code = "import sys; from podium.paths import DataDir; from podium.store.store import Store\n"
    code += "store = Store(DataDir(sys.argv[1])); store.ensure_tree(store.resolve('a'))\n"
    code += "heavy = {'sqlite3', 'hashlib', 'tarfile', 'subprocess', 'tempfile', 're', 'typing'} & set(sys.modules)\n"
    code += "print(sorted(heavy))"
    argv = [sys.executable, "-S", "-c", code, store.data.root]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(argv, env=environment, check=True, capture_output=True, text=True)
    assert "sqlite3" not in done.stdout and "hashlib" not in done.stdout and "tarfile" not in done.stdout


def test_last_used_is_noted(store: Store, work: str) -> None:
    image = import_path(store, layout(work, "a"))
    assert store.last_used(image) is None
    before = time.time() - 1
    store.ensure_tree(image)
    last = store.last_used(image)
    assert last is not None and last >= before
