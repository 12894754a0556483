"""`podium image fetch`."""

from __future__ import annotations

from podium.cli.command import TLS_VERIFY, Args, Command, Context, Operand, Option


def run(context: Context, args: Args) -> int:
    """Fetch an image and print its id."""
    from podium.cli.progress import shown

    with shown(f"fetching {args.address}") as progress:
        context.progress = progress
        image = context.runtime.fetch_image(args.address, args.name, args.platform, args.tls_verify != "false")
    print(image.id)
    return 0


COMMAND = Command(
    "image fetch",
    "fetch an image from a registry",
    run,
    options=(
        Option("--name", "the image's name, in place of HOST/NAME:TAG", "NAME[:TAG]"),
        Option("--platform", "of an image for several (linux/arm64); default: this machine's", "OS/ARCH"),
        TLS_VERIFY,
    ),
    operands=(Operand("ADDRESS", "1"),),
    about="ADDRESS is docker://HOST[:PORT]/NAME[:TAG|@DIGEST]. The image's id is printed. What the store has is not "
    "fetched again, and what was interrupted is taken up where it stopped. Credentials are those that 'podman login', "
    "'skopeo login' and 'docker login' keep, or those in REGISTRY_AUTH_FILE.",
    examples=(
        "podium image fetch docker://registry.example/team/web:1.2",
        "podium image fetch --tls-verify=false docker://localhost:5000/web",
    ),
    root=True,
)
