"""`podium image push`."""

from __future__ import annotations

from podium.cli.command import TLS_VERIFY, Args, Command, Context, Operand


def run(context: Context, args: Args) -> int:
    """Push an image and print the digest that it has there."""
    from podium.cli.progress import shown

    with shown(f"pushing {args.image}") as progress:
        context.progress = progress
        digest = context.runtime.push_image(args.image, args.address, args.tls_verify != "false")
    print(digest)
    return 0


COMMAND = Command(
    "image push",
    "push an image to a registry",
    run,
    options=(TLS_VERIFY,),
    operands=(Operand("IMAGE", "1", "image"), Operand("ADDRESS", "1")),
    about="ADDRESS is docker://HOST[:PORT]/NAME[:TAG]. The digest of the image's manifest is printed. An OCI image "
    "goes as it came; an ACI or a rootfs becomes an image of one layer. Credentials: see 'podium image fetch --help'.",
    examples=("podium image push demo/busybox:1 docker://localhost:5000/demo/busybox:1",),
    root=True,
)
