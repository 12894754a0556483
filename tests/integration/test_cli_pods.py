"""Verbs on real pods, as a user types them."""

from __future__ import annotations

import json
import os

import pytest

from support.command import Podium

IMAGE = "test/busybox:1"
FLY = ("--stage1", "fly", "--net", "host")


@pytest.fixture
def loaded(podium: Podium, busybox_rootfs: str) -> Podium:
    """podium with an image in its store."""
    imported = podium.out("image", "import", busybox_rootfs, "--name", IMAGE, "--exec", "/bin/sh")
    assert imported.startswith("sha256:")
    return podium


def test_life_of_a_pod_by_name_prefix_and_uuid_file(loaded: Podium, test_dir: str) -> None:
    file = os.path.join(test_dir, "uuid")
    words = ("--name", "web", "--label", "tier=front", "--uuid-file-save", file, IMAGE, "--name", "srv", "--", "-c")
    uuid = loaded.out("run", "-d", *FLY, *words, "echo out; echo err >&2; sleep 600")
    with open(file, encoding="ascii") as f:
        assert f.read().strip() == uuid
    assert loaded("status", "--wait-ready=60s", "web").stdout.startswith("uuid:")
    assert loaded.json("status", "--uuid-file", file)["pod"]["state"] == "running"
    assert loaded.out("logs", uuid[:8]).splitlines() == ["out", "err"]
    assert loaded.out("logs", "--app", "srv", "--tail", "1", "web") == "err"
    assert loaded.out("logs", "--timestamps", "--tail", "1", "web")[:2] == "20"
    entered = loaded("enter", "--uuid-file", file, "--", "sh", "-c", "echo a; echo b >&2; exit 5", check=5)
    assert (entered.stdout, entered.stderr) == ("a\n", "b\n")
    loaded("exec", "web", "no-such-command", check=127)
    loaded("exec", "web", "/etc/passwd", check=126)
    assert loaded("rm", "web", check=4).stdout == ""
    assert loaded("status", "web", "--wait=0s", check=1).stderr.startswith(f"podium: pod {uuid}")
    assert loaded.out("kill", "--signal", "KILL", "web") == uuid
    assert loaded.out("wait", "web") == f"{uuid} 137"
    assert loaded.json("wait", "web")["pods"][0]["uuid"] == uuid
    loaded("kill", "web", check=4)
    assert loaded.out("stop", "web", uuid) == uuid  # it has ended: what was asked for, told once
    assert loaded.out("rm", "web") == uuid
    loaded("status", "--uuid-file", file, check=3)


def test_exit_codes_and_streams_of_run(loaded: Podium) -> None:
    run = ("run", "--rm", *FLY)
    done = loaded(*run, IMAGE, "--", "-c", "echo out; echo err >&2; exit 7", check=7)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert loaded(*run, "-i", IMAGE, "--exec", "/bin/cat", input="in\n").stdout == "in\n"
    loaded(*run, IMAGE, "--", "-c", "kill -9 $$", check=137)
    loaded(*run, IMAGE, "--exec", "/no/such", check=127)
    loaded(*run, IMAGE, "--exec", "/etc/passwd", check=126)
    loaded("run", "-d", "-t", *FLY, IMAGE, check=125)
    loaded("gc", "--grace-period", "0s")
    assert loaded.pods() == {}


def test_filters_and_columns_of_list(loaded: Podium) -> None:
    one = loaded.out("prepare", *FLY, "--name", "one", "--label", "tier=a", IMAGE)
    two = loaded.out("prepare", *FLY, IMAGE, "--name", "app2")
    _, *rows = loaded.out("list", "--full").splitlines()
    assert [row.split()[:5] for row in rows] == [
        [one, "one", "prepared", "fly", "busybox"],
        [two, "-", "prepared", "fly", "app2"],
    ]
    assert loaded.out("list", "--no-legend").split()[0] == one[:8]
    for words, found in (
        (["name=one"], {one}),
        (["label=tier"], {one}),
        (["label=tier=b"], set()),
        (["app=app2"], {two}),
        (["stage1=fly"], {one, two}),
        (["image=test/busybox"], {one, two}),
        (["state=prepared", "name=one"], {one}),
        (["state=running"], set()),
    ):
        filters = [word for filter in words for word in ("--filter", filter)]
        assert {pod["uuid"] for pod in loaded.json("list", *filters)["pods"]} == found, words
    assert loaded.out("run-prepared", "-d", "one") == one
    assert loaded.out("gc", "--grace-period", "0s", "--expire-prepared", "0s", "--dry-run").split() != []
    loaded("status", "one", "--wait")
    report = loaded.json("gc", "--grace-period", "0s", "--expire-prepared", "0s")
    assert report["schema"] == "podium.gc/1" and sorted(report["collected"]) == sorted([one, two])
    assert loaded.out("list", "--no-legend") == ""


def test_a_damaged_pod_is_listed_with_its_reason(loaded: Podium) -> None:
    uuid = loaded.out("prepare", *FLY, IMAGE)
    path = os.path.join(loaded.dir, "pods", "prepared", uuid, "envelope.json")
    with open(path, "wb") as f:
        f.write(b"\x1b[31m{")
    done = loaded("list")
    assert "prepared (corrupt)" in done.stdout and uuid[:8] in done.stdout
    assert uuid in done.stderr and done.stderr.count("\n") == 1 and "\x1b" not in done.stdout + done.stderr
    loaded("rm", "--force", uuid)


def test_a_dry_run_makes_nothing(loaded: Podium) -> None:
    done = loaded("run", "--dry-run", *FLY, "--label", "a=b", IMAGE, "--memory", "64M", "--", "-c", "exit 3")
    manifest = json.loads(done.stdout)
    assert manifest["acKind"] == "PodManifest" and manifest["userLabels"] == {"a": "b"}
    assert manifest["apps"][0]["app"]["exec"][-2:] == ["-c", "exit 3"]
    assert loaded.pods() == {}


def test_manifests_and_records_of_a_pod(loaded: Podium) -> None:
    uuid = loaded.out("prepare", *FLY, IMAGE)
    assert json.loads(loaded.out("cat-manifest", uuid))["acKind"] == "PodManifest"
    assert json.loads(loaded.out("inspect", uuid))["schema"] == "podium.inspect/1"
    used = [pin for pin in loaded.json("stage1", "pins", "--verify")["pins"] if pin["in_use"]]
    assert len(used) == 1 and used[0]["problem"] is None
    assert loaded.out("stage1", "pins", "--verify").splitlines()[1].split()[-2:] == ["yes", "whole"]
    loaded("rm", uuid)


def test_images(loaded: Podium) -> None:
    (image,) = loaded.json("image", "list")["images"]
    assert (image["name"], image["tags"], image["format"]) == ("test/busybox", ["1"], "rootfs")
    assert loaded.out("image", "list", "--no-legend", "--full").split()[:3] == [image["id"], "test/busybox", "1"]
    assert json.loads(loaded.out("image", "inspect", IMAGE))["image"]["id"] == image["id"]
    assert json.loads(loaded.out("image", "cat-manifest", image["id"][:20]))["acKind"] == "ImageManifest"
    uuid = loaded.out("prepare", *FLY, IMAGE)
    loaded("image", "rm", IMAGE, check=4)
    loaded("rm", uuid)
    assert loaded.out("image", "rm", IMAGE) == image["id"]
    loaded("image", "rm", IMAGE, check=3)


def test_stage1_plugins_are_listed_and_checked(podium: Podium) -> None:
    assert "fly" in {plugin["name"] for plugin in podium.json("stage1", "list")["plugins"]}
    (check,) = podium.json("stage1", "check", "fly")["plugins"]
    assert check["usable"] and podium.out("stage1", "check", "fly").startswith("fly: usable\n")
    podium("stage1", "check", "no-such-plugin", check=3)
