"""Refuses from its header alone what can't be a photograph, before anything is used up or decoded."""

from checkin_service.usecases.refusals import Refusal
from face import ImageError, check_header


def check_photo(photo: bytes) -> None:
    """Raises `Refusal`: unsupported_media_type, image_unreadable."""
    try:
        check_header(photo)
    except ImageError as error:
        raise Refusal(error.code) from error
