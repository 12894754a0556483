"""Last-ditch: what an older rule allowed is shown, run where the difference does not matter, and always removable."""

from __future__ import annotations

import json
import os
from typing import Any

from podium import records
from support.command import Podium

FLY = ("--stage1", "fly", "--net", "host")
OLD = {"name": "Old_Label!", "value": "x"}


def _manifest(podium: Podium, pod: str) -> str:
    return os.path.join(podium.json("inspect", pod)["path"], "pod")


def _change(path: str, **changes: Any) -> None:
    with open(path, encoding="utf-8") as f:
        manifest = json.load(f)
    manifest |= changes
    app = manifest["apps"][0]
    app["image"] |= {"name": "Example.COM/Box", "id": "md5-1", "labels": [OLD]}
    app["annotations"] = [*app.get("annotations", []), OLD]
    with open(path, "w", encoding="utf-8") as f:
        f.write(json.dumps(manifest) + "\n")


def test_a_pod_of_an_older_rule_is_run_and_removed(box: Podium) -> None:
    uuid = box.out("prepare", *FLY, "--name", "old", "box", "--name", "web", "--exec", "/bin/echo", "--", "ran")
    _change(_manifest(box, "old"), acVersion="0.5.1+old")
    assert box.pods()[uuid]["state"] == "prepared"
    (found,) = box.json("fsck")["findings"]
    assert not found["damage"] and found["kind"] == "pod-manifest"
    for part in (uuid, "web from box", "appc 0.5.1+old", "apps[0]"):
        assert part in found["message"], part
    assert box.out("run-prepared", "old") == "ran"
    box("rm", "old")
    assert box.pods() == {}


def test_what_an_app_is_is_not_guessed(box: Podium) -> None:
    uuid = box.out("prepare", *FLY, "--name", "odd", "box", "--name", "web", "--exec", "/bin/true")
    path = _manifest(box, "odd")
    with open(path, encoding="utf-8") as f:
        manifest = json.load(f)
    manifest["apps"][0]["app"]["exec"] = "/bin/true"
    with open(path, "w", encoding="utf-8") as f:
        f.write(json.dumps(manifest) + "\n")
    told = box("run-prepared", "odd", check=125).stderr
    assert uuid in told and "apps[0].app.exec" in told
    assert "apps[0].app.exec" in box.json("fsck")["findings"][0]["message"]
    assert uuid in box.pods()
    box("rm", "--force", "odd")


def test_broken_json_is_placed_and_removable(box: Podium) -> None:
    uuid = box.out("prepare", *FLY, "box", "--name", "web", "--exec", "/bin/true")
    path = _manifest(box, uuid)
    with open(path, "rb") as f:
        content = f.read()
    with open(path, "wb") as f:
        f.write(content.replace(b'"apps"', b'\n "apps" oops', 1))
    done = box("cat-manifest", uuid, check=1)
    for part in (uuid, "web", "box", "0.8.11", "line 2", "column "):
        assert part in done.stderr, part
    refused = box("run-prepared", uuid, check=125).stderr
    for part in (uuid, "web from box", "appc 0.8.11", "line 2", "column "):
        assert part in refused, part
    assert "not prepared but exited" in box("run-prepared", uuid, check=125).stderr
    box("rm", "--force", uuid)
    assert box.pods() == {}


def test_an_image_of_an_older_rule_is_shown_run_and_removed(box: Podium) -> None:
    image = box.json("image", "list")["images"][0]
    path = os.path.join(box.dir, "images", image["id"].partition(":")[2] + ".json")
    record = records.read(path)
    record["manifest"] |= {"name": "Example.COM/Box", "labels": [*record["manifest"].get("labels", []), OLD]}
    with open(path, "wb") as f:
        f.write(records.seal(record) + b"\n")
    assert box.json("image", "list")["images"][0]["name"] == "box"
    box("image", "inspect", "box")
    (found,) = box.json("fsck")["findings"]
    assert found["kind"] == "image-manifest" and not found["damage"]
    assert image["id"] in found["message"] and "appc 0.8.11" in found["message"]
    assert box.out("run", *FLY, "--rm", "box", "--exec", "/bin/echo", "--", "ran") == "ran"
    box("image", "rm", "box")
