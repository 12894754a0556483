"""What is wrong with a pod's manifest, in words that name all that is known of the pod."""

from __future__ import annotations

from podium.appc.salvage import Salvage, describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podium.pods.envelope import Envelope


def manifest_fault(uuid: str, data: bytes, envelope: Envelope | None) -> tuple[str, str]:
    """How well a manifest can be read, and what is wrong.

    Args:
        uuid: of the pod.
        data: the manifest.
        envelope: the pod's, if it can be read.

    Returns:
        `strict` and an empty text; or `lastditch` or `salvage`, and a message with uuid, apps, images, version of the
        specification and, where the JSON is broken, line and column.
    """
    level, what = describe(data, "pod")
    if level == "strict":
        return level, ""
    if envelope is not None:
        apps = ", ".join(f"{a.name} from {a.image}" for a in envelope.apps)
    elif isinstance(what, Salvage):
        apps = ", ".join((*what.names, *what.image_names))
    else:
        apps = ", ".join(f"{a.name} from {a.image_name}" for a in getattr(what, "apps", ()))
    version = getattr(what, "ac_version", "") or "unknown"
    fault = getattr(what, "fault", "")
    place = f" (line {what.line}, column {what.column})" if isinstance(what, Salvage) and what.line else ""
    state = "is damaged" if level == "salvage" else "is not valid by today's specification"
    return level, f"the manifest of pod {uuid} (apps: {apps or 'unknown'}; appc {version}) {state}: {fault}{place}"
