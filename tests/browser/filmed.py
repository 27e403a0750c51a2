"""What the fake camera sees: a portrait as a film that stands still."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

# slow, for every frame is drawn by the processor
FRAMES_PER_S = 5


def film(portrait: bytes, path: Path, size: tuple[int, int] = (720, 960)) -> Path:
    """The middle of the portrait, scaled to fill this size, as Y4M in limited range, which the browser expects."""
    with Image.open(BytesIO(portrait)) as picture:
        scale = max(size[0] / picture.width, size[1] / picture.height)
        large = picture.convert("RGB").resize((round(picture.width * scale), round(picture.height * scale)))
    left, top = (large.width - size[0]) // 2, (large.height - size[1]) // 2
    bands = large.crop((left, top, left + size[0], top + size[1])).convert("YCbCr").split()
    luma, *chroma = [np.asarray(band, dtype=np.float64) for band in bands]
    planes = [16 + luma * 219 / 255, *(128 + (each[::2, ::2] - 128) * 224 / 255 for each in chroma)]
    frame = b"FRAME\n" + b"".join(plane.round().astype(np.uint8).tobytes() for plane in planes)
    header = f"YUV4MPEG2 W{size[0]} H{size[1]} F{FRAMES_PER_S}:1 Ip A1:1 C420\n".encode()
    path.write_bytes(header + frame * 2)
    return path
