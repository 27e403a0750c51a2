"""From the bytes of a photograph to upright RGB pixels, in bounded memory.

Pillow is given only the parts of the file that make up the pixels (:attr:`Header.needed`): its readers of
comments, colour profiles, EXIF and multi-picture files then have nothing to read.
"""

from io import BytesIO

import numpy as np
from PIL import Image

from face.header import check_header
from face.image_errors import ImageUnreadable
from face.picture import LIMITS, Header, ImageLimits, Pixels

# A face is compared at 150 pixels, so nothing is gained from more than this on the shorter side.
MOST_SHORT_SIDE_PX = 1080
_STRIP_ROWS = 128

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(data: bytes, short_side_px: int = MOST_SHORT_SIDE_PX, limits: ImageLimits = LIMITS) -> Pixels:
    """The pixels of a JPEG or PNG, see :meth:`Photograph.pixels`."""
    return Photograph(data, short_side_px, limits).pixels(short_side_px)


class Photograph:
    """A JPEG or PNG at one size or several, of which ``most_short_side_px`` is the largest.

    What has no cheap way to a smaller size (PNG, JPEGs of several scans) is decoded once, to the largest, which is
    kept. Raises what :func:`check_header` raises.
    """

    def __init__(
        self, data: bytes, most_short_side_px: int = MOST_SHORT_SIDE_PX, limits: ImageLimits = LIMITS
    ) -> None:
        self._data = data
        self._most_short_side_px = most_short_side_px
        self._header = check_header(data, limits)
        self._kept: Image.Image | None = None

    def is_scaled(self, short_side_px: int) -> bool:
        """Whether :meth:`pixels` scales it down."""
        return min(self._header.width, self._header.height) >= 2 * short_side_px

    def pixels(self, short_side_px: int) -> Pixels:
        """Upright; a large photograph is scaled down by a whole number, to a shorter side of ``short_side_px`` or
        more, but less than twice that.

        EXIF's orientation is followed, alpha is laid onto white (what a person would see), 16-bit grey keeps its
        upper byte. Raises ``ImageUnreadable`` (``damaged``) for pixels that cannot be decoded.
        """
        try:
            picture = _rgb(self._decoded(short_side_px), short_side_px)
        except MemoryError:
            raise
        except Exception as fault:
            # Pillow raises a dozen unrelated kinds on damaged data; whatever it is, the picture is not usable.
            raise ImageUnreadable(
                "damaged", "The photograph is damaged and cannot be read. Take it again and send it."
            ) from fault
        return np.ascontiguousarray(_upright(picture, self._header.orientation))

    def _decoded(self, short_side_px: int) -> Image.Image:
        if self._header.in_rows:
            return _load(self._data, self._header, short_side_px)
        if self._kept is None:
            most_px = self._most_short_side_px
            self._kept = _rgb(_load(self._data, self._header, most_px), most_px)
        return self._kept


def _load(data: bytes, header: Header, short_side_px: int) -> Image.Image:
    pixels_only = b"".join(data[start:end] for start, end in header.needed)
    picture = Image.open(BytesIO(pixels_only), formats=(header.format,))
    if picture.size != (header.width, header.height):
        raise ValueError("Pillow and the header disagree about the size")
    factor = max(1, min(picture.size) // short_side_px)
    if header.format == "JPEG":
        picture.draft(picture.mode, (header.width // factor, header.height // factor))
    picture.load()
    return picture


def _rgb(picture: Image.Image, short_side_px: int) -> Image.Image:
    factor = max(1, min(picture.size) // short_side_px)
    if picture.mode == "RGB" and not picture.has_transparency_data:
        return picture.reduce(factor)
    width, height = picture.size
    shown = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    for top in range(0, height, _STRIP_ROWS * factor):  # in strips: a 12-megapixel copy is 48 MB
        strip = picture.crop((0, top, width, min(height, top + _STRIP_ROWS * factor)))
        shown.paste(_small(strip, factor), (0, top // factor))
    return shown


def _small(picture: Image.Image, factor: int) -> Image.Image:
    if picture.mode in {"RGBA", "LA"}:  # a mean in which a pixel weighs by its alpha: the same, and sooner
        return _on_white(picture.reduce(factor))
    return _on_white(picture).reduce(factor)


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):  # Pillow's own conversion clips to 255
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    shown = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")


def _upright(picture: Image.Image, orientation: int) -> Image.Image:
    return picture.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else picture
