"""A file or folder outside the pod's own: the pod's if its name has the pod's uuid, or it is the recorded inode."""

from __future__ import annotations

import os
import stat

from podium.gc.reclaim import refuse
from podium.linux.tree import remove_tree
from podium.pods.lifecycle import PodRef
from podium.types import Resource


def release(pod: PodRef, resource: Resource) -> None:
    """See `podium.gc.reclaim.reclaim`. The id is the path; attributes `st_dev` and `st_ino`."""
    try:
        there = os.lstat(resource.id)
    except FileNotFoundError:
        return
    recorded = (resource.attrs.get("st_dev"), resource.attrs.get("st_ino"))
    if pod.uuid not in resource.id and recorded != (there.st_dev, there.st_ino):
        raise refuse(pod, resource, "what is there now is not what the pod made")
    if stat.S_ISDIR(there.st_mode):
        remove_tree(os.path.dirname(resource.id), os.path.basename(resource.id))
    else:
        os.unlink(resource.id)
