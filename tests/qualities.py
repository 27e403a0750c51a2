"""Measures of a photograph that nothing is wrong with."""

from face.quality import Quality

GOOD = Quality(
    eye_distance_px=80,
    luminance=120,
    contrast=35,
    burnt_share=0.0,
    sharpness=0.4,
    yaw_deg=0.0,
    outside_share=0.0,
    confidence=0.94,
    eye_contrast=0.8,
    mouth_contrast=0.9,
)
