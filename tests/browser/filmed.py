"""What the fake camera sees: a portrait as a film of Motion JPEG."""

from io import BytesIO
from pathlib import Path

from PIL import Image

FRAMES = 6


def film(portrait: bytes, path: Path, size: tuple[int, int] = (720, 960)) -> Path:
    """The portrait in the middle of a picture of this size, which the browser plays again and again."""
    with Image.open(BytesIO(portrait)) as picture:
        scale = max(size[0] / picture.width, size[1] / picture.height)
        large = picture.convert("RGB").resize((round(picture.width * scale), round(picture.height * scale)))
    left, top = (large.width - size[0]) // 2, (large.height - size[1]) // 2
    frame = BytesIO()
    large.crop((left, top, left + size[0], top + size[1])).save(frame, "JPEG", quality=92)
    path.write_bytes(frame.getvalue() * FRAMES)
    return path
