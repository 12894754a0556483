"""`podium image import`."""

from __future__ import annotations

from podium.cli.command import Args, Command, Context, Operand, Option

FORMATS = ("aci", "oci", "docker-archive", "rootfs")


def run(context: Context, args: Args) -> int:
    """Import an image and print its id."""
    from podium.cli.progress import shown

    with shown(f"importing {args.path}") as progress:
        context.progress = progress
        image = context.runtime.import_image(args.path, args.name, args.exec, args.format, args.platform)
    print(image.id)
    return 0


def _words(text: str) -> list[str]:
    import shlex

    return shlex.split(text)


COMMAND = Command(
    "image import",
    "take an image into the store",
    run,
    options=(
        Option("--name", "the image's name; a rootfs needs one", "NAME[:TAG]"),
        Option("--exec", "the command of a rootfs, quoted as for a shell", "'CMD ...'", convert=_words),
        Option("--format", "what PATH is, where it isn't to be detected", "FORMAT", choices=FORMATS),
        Option("--platform", "of an image for several (linux/arm64); default: this machine's", "OS/ARCH"),
    ),
    operands=(Operand("PATH", "1", "file"),),
    about="PATH is an ACI, an OCI layout (folder or archive), an archive of 'docker save', or a rootfs (folder or "
    "tar). The image's id is printed.",
    examples=(
        "podium image import busybox.oci.tar",
        "podium image import ./rootfs --name demo/busybox:1 --exec /bin/sh",
    ),
    root=True,
)
