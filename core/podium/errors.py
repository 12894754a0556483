"""What podium raises when it can't do what it was asked.

One class a situation: `reason` is the machine word that scripts read, `exit_code` the status from docs/cli.md, `hint`
what the user can do about it. Only `podium.cli.main` turns an error into text, JSON and a status; a system call's
failure stays an `OSError`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


SCHEMA = "podium.error/1"


class PodiumError(Exception):
    """Base of all errors that are told to the user without a traceback.

    Args:
        message: what went wrong, naming the thing.
        hint: what to do about it.
        subject: the id, name or path that it is about.
    """

    reason = "failed"
    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None, subject: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.subject = subject

    def to_json(self) -> dict[str, Any]:
        """The error as `podium.error/1`."""
        return {
            "schema": SCHEMA,
            "reason": self.reason,
            "message": self.message,
            "hint": self.hint,
            "subject": self.subject,
        }


class Failed(PodiumError):
    """Podium or the host failed; nothing the user asked for was wrong."""


class BadUsage(PodiumError):
    """The command line is wrong."""

    reason = "bad-usage"
    exit_code = 2


class BadInput(PodiumError):
    """A file, manifest, option value or archive is not what it has to be."""

    reason = "bad-input"
    exit_code = 2


class LimitExceeded(BadInput):
    """An input is larger, deeper or more numerous than the configured limit."""

    reason = "limit-exceeded"


class NotFound(PodiumError):
    """No such pod, image, app or plugin."""

    reason = "not-found"
    exit_code = 3


class RegistryFailed(PodiumError):
    """A registry can't be reached, fails, or does not keep to its protocol."""

    reason = "registry-failed"


class AccessDenied(PodiumError):
    """A registry wants other credentials than it was given, or none of ours will do."""

    reason = "access-denied"


class Ambiguous(PodiumError):
    """An id, prefix or name fits more than one thing."""

    reason = "ambiguous"
    exit_code = 2


class WrongState(PodiumError):
    """The thing is there, but not in a state that allows this."""

    reason = "wrong-state"
    exit_code = 4


class InUse(PodiumError):
    """Somebody else uses it: a lock, a reference, a name that is taken."""

    reason = "in-use"
    exit_code = 4


class NewerFormat(PodiumError):
    """Written by a podium that uses a feature this one doesn't know."""

    reason = "newer-format"
    exit_code = 5


class InterfaceMismatch(PodiumError):
    """A stage1 plugin speaks an interface version that this podium doesn't."""

    reason = "interface-mismatch"
    exit_code = 5


class HostLacks(PodiumError):
    """The host lacks a program, kernel feature or privilege."""

    reason = "host-lacks"
    exit_code = 7


class CapabilityUnsupported(PodiumError):
    """The pod asks for something that its stage1 plugin does not implement."""

    reason = "capability-unsupported"
    exit_code = 2


class Corrupt(PodiumError):
    """A stored record is damaged: it can't be read, or its checksum is wrong."""

    reason = "corrupt"
    exit_code = 1


class PluginRefused(PodiumError):
    """The plugin code answerable for a pod can't be used: missing, damaged, revoked, hostile or ambiguous."""

    reason = "plugin-refused"
    exit_code = 5


class PluginFailed(PodiumError):
    """A plugin's hook raised, crashed, hung, or broke the worker protocol.

    `reason` of an instance tells which: plugin-raised, plugin-crashed, plugin-timeout or plugin-protocol.
    """

    reason = "plugin-failed"

    def __init__(
        self, message: str, *, reason: str | None = None, hint: str | None = None, subject: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, subject=subject)
        if reason is not None:
            self.reason = reason


class PartlyFailed(PodiumError):
    """Several things were attempted and some failed; each failure was told on its own."""

    reason = "partly-failed"
    exit_code = 6


class Stopped(PodiumError):
    """The pod was asked to end while its stage1 still made what the apps were to be started into.

    Attributes:
        number: the signal that asked.
    """

    reason = "stopped"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        subject: str | None = None,
        number: int = 15,  # SIGTERM, without the import
    ) -> None:
        super().__init__(message, hint=hint, subject=subject)
        self.number = number


class CannotExecute(PodiumError):
    """The app's command is there but can't be executed (EACCES, ENOEXEC, a folder)."""

    reason = "cannot-execute"
    exit_code = 126


class CommandNotFound(PodiumError):
    """The app's command does not exist in its rootfs."""

    reason = "command-not-found"
    exit_code = 127


def _classes(base: type[PodiumError]) -> list[type[PodiumError]]:
    return [base, *(c for sub in base.__subclasses__() for c in _classes(sub))]


def from_json(data: dict[str, Any]) -> PodiumError:
    """The error that `to_json` described: the class of its `reason`, or a `PluginFailed` that carries the reason."""
    message, reason = str(data.get("message", "")), str(data.get("reason", "failed"))
    hint, subject = data.get("hint"), data.get("subject")
    for cls in _classes(PodiumError):
        if cls.reason == reason and cls is not PodiumError:
            return cls(message, hint=hint, subject=subject)
    return PluginFailed(message, reason=reason, hint=hint, subject=subject)
