"""Damage inside JPEG data, which decoders for pictures pass over."""

from __future__ import annotations

from importlib.util import find_spec


def sees_damage() -> bool:
    """Whether the package that says what libjpeg notices is here (`faceprint[strict]`)."""
    return find_spec("simplejpeg") is not None


def jpeg_damage(data: bytes) -> str | None:
    """What libjpeg notices of damage in a JPEG that can be decoded; None where it notices nothing, as in other data.

    OpenCV and Pillow fill in what they miss and give a picture. JPEG has no checksum: a change that leaves a valid
    sequence of codes is not noticed by any decoder. Needs `sees_damage`.
    """
    import simplejpeg

    if not data.startswith(b"\xff\xd8"):
        return None
    try:
        simplejpeg.decode_jpeg(data, "GRAY", strict=True)  # all codes are read for the light alone, too
    except ValueError as error:
        return str(error)
    return None
