"""Files and folders outside of the pod's own: `id` is the path; `attrs` may have `st_dev` and `st_ino`.

One below the pod's folder goes with that. Another is the pod's if its name carries the pod's uuid, or if it has the
recorded device and inode.
"""

from __future__ import annotations

import os

from podium.linux.tree import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podium.gc.reclaim import Claim


def present(claim: Claim) -> bool:
    """See the package."""
    path = claim.resource.id
    if claim.inside(path) is not None:
        return False
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    if claim.uuid in os.path.basename(path) or claim.recorded_file() == (status.st_dev, status.st_ino):
        return True
    raise claim.not_provable("its name does not carry the pod's uuid, nor are device and inode those recorded")


def release(claim: Claim) -> None:
    """See the package. Neither links are followed nor mounts crossed."""
    parent, name = os.path.split(claim.resource.id)
    remove_tree(parent, name)
