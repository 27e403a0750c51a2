"""Why a picture is refused: stable codes for programs, a sentence that says what to do for people."""

from collections.abc import Mapping
from typing import ClassVar


class ImageError(Exception):
    """A picture that cannot be analysed, whoever is on it.

    ``code`` names the kind of refusal, ``fault`` the exact cause, ``detail`` the numbers behind it;
    ``str()`` is an English sentence that says what is wrong and what to do.

    >>> error = ImageUnreadable("too_many_pixels", "Too large.", width=9000, height=9000)
    >>> error.code, error.fault, error.detail
    ('image_unreadable', 'too_many_pixels', {'width': 9000, 'height': 9000})
    """

    code: ClassVar[str]

    def __init__(self, fault: str, sentence: str, **detail: int | str) -> None:
        super().__init__(sentence)
        self.fault = fault
        self.detail = detail


class UnsupportedMediaType(ImageError):
    """The bytes are neither a JPEG nor a still PNG."""

    code = "unsupported_media_type"


class ImageUnreadable(ImageError):
    """A JPEG or PNG by its first bytes that is damaged, incomplete or outside the limits."""

    code = "image_unreadable"


def error_to_json(error: ImageError) -> dict[str, object]:
    """What :func:`error_from_json` needs to raise the same error in another process."""
    return {"code": error.code, "fault": error.fault, "sentence": str(error), "detail": error.detail}


def error_from_json(record: Mapping[str, object]) -> ImageError:
    """The error that was written. Raises ``KeyError`` or ``TypeError`` for a record of another shape.

    >>> str(error_from_json(error_to_json(UnsupportedMediaType("webp", "Send a JPEG."))))
    'Send a JPEG.'
    """
    kinds: dict[object, type[ImageError]] = {
        kind.code: kind for kind in (UnsupportedMediaType, ImageUnreadable)
    }
    detail = record["detail"]
    if not isinstance(detail, dict):
        raise TypeError("detail is no object")
    return kinds[record["code"]](str(record["fault"]), str(record["sentence"]), **detail)
