"""Names, versions and image ids as the appc specification has them (types.md).

Where the specification's text and its reference implementation differ, the wider rule holds, because images that were
built with the latter exist: separators may follow each other (`a--b`), and a sha512 id may be cut to its first digits.
"""

from __future__ import annotations

from podium.errors import BadInput

SPEC_VERSION = "0.8.11"
_ALNUM = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_HEX = frozenset("0123456789abcdef")
_SEPARATORS = "-._~/"
_LIMIT = 1024  # characters of a name or identifier; the longest real ones are about 200
# Digits of an id: all of them, but sha512 ids may be shortened, to 64 digits or fewer, as rkt's store does.
_ID_DIGITS = {"sha512": range(12, 129), "sha256": range(64, 65)}


def is_ac_name(text: str) -> bool:
    """Whether it is an AC Name: lower case letters, digits and `-`, the latter not at its ends."""
    return _is_name(text, "-")


def is_ac_identifier(text: str) -> bool:
    """Whether it is an AC Identifier: lower case letters, digits and `-._~/`, the latter not at its ends."""
    return _is_name(text, _SEPARATORS)


def _is_name(text: str, separators: str) -> bool:
    if not 0 < len(text) <= _LIMIT or text[0] not in _ALNUM or text[-1] not in _ALNUM:
        return False
    return all(c in _ALNUM or c in separators for c in text)


def is_hostname(text: str) -> bool:
    """Whether it is a host name that Linux takes (hostname(7), and at most 64 characters: uname(2))."""
    if not text.isascii() or len(text) > 64:
        return False
    labels = text.split(".")
    return all(
        0 < len(label) < 64 and label[0] != "-" != label[-1] and label.replace("-", "a").isalnum() for label in labels
    )


def is_semver(text: str) -> bool:
    """Whether it is a version of SemVer 2.0.0 (semver.org)."""
    if len(text) > 256:
        return False
    rest, plus, build = text.partition("+")
    core, dash, pre = rest.partition("-")
    numbers = core.split(".")
    return (
        len(numbers) == 3
        and all(map(_is_number, numbers))
        and (not plus or all(map(_is_word, build.split("."))))
        and (not dash or all(_is_word(w) and (not w.isdigit() or _is_number(w)) for w in pre.split(".")))
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and (text == "0" or text[0] != "0")


def _is_word(text: str) -> bool:
    return text.isascii() and text.replace("-", "a").isalnum()


def ac_version_fault(text: str) -> str | None:
    """What is wrong with an AC Version, or None.

    Within a major version the specification is compatible both ways, so only another major version is refused.
    """
    if not is_semver(text):
        return f"{text[:64]!r} is no version (SemVer 2.0.0, such as {SPEC_VERSION})"
    if text.split("+")[0].split("-")[0] == "0.0.0":
        return "it must not be 0.0.0"
    if text.split(".")[0] != SPEC_VERSION.split(".")[0]:
        return f"{text[:64]!r} is not of the 0.x series of the appc specification, which podium knows"
    return None


def is_image_id(text: str) -> bool:
    """Whether it is an image id in appc's spelling: `sha512-<hex>`, or `sha256-<64 hex>`, which podium adds."""
    algorithm, _, digits = text.partition("-")
    return len(digits) in _ID_DIGITS.get(algorithm, ()) and all(c in _HEX for c in digits)


def is_podium_id(text: str) -> bool:
    """Whether it is an image id as podium's records have it: `<algorithm>:<hex>`."""
    return text.count(":") == 1 and "-" not in text and is_image_id(text.replace(":", "-"))


def to_appc_id(image_id: str) -> str:
    """`sha256:<hex>` as appc writes it, `sha256-<hex>`; what is in appc's spelling already stays.

    Raises:
        BadInput: it is no image id.
    """
    return _convert(image_id, "-")


def to_podium_id(image_id: str) -> str:
    """`sha256-<hex>` as podium writes it, `sha256:<hex>`; what is in podium's spelling already stays.

    Raises:
        BadInput: it is no image id.
    """
    return _convert(image_id, ":")


def _convert(image_id: str, separator: str) -> str:
    if not is_podium_id(image_id) and not is_image_id(image_id):
        raise BadInput(f"{image_id[:160]!r} is no image id", hint="it has the form sha256:<64 hex digits>")
    return image_id.replace(":", separator).replace("-", separator)


def sanitize_name(text: str) -> str:
    """An AC Name as near as can be to any text: `Foo_Bar:1.0` becomes `foo-bar-1-0`.

    Raises:
        BadInput: no letter or digit is in it.
    """
    return _sanitize(text, "-", "-")


def sanitize_identifier(text: str) -> str:
    """An AC Identifier as near as can be to any text: `localhost:5000/Foo` becomes `localhost-5000/foo`.

    Raises:
        BadInput: no letter or digit is in it.
    """
    return _sanitize(text, _SEPARATORS, "-")


def _sanitize(text: str, keep: str, instead: str) -> str:
    result = ""
    for c in text.lower()[:_LIMIT]:
        if c in _ALNUM:
            result += c
        elif result and result[-1] in _ALNUM:  # one separator at a time
            result += c if c in keep else instead
    result = result.rstrip(keep)
    if not result:
        raise BadInput(f"no name can be made of {text[:64]!r}", hint="a name needs a letter (a-z) or a digit")
    return result
