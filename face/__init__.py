"""Faces in photographs: decode, find, measure, describe, compare. Knows nothing of persons or tasks.

What needs dlib or Pillow runs in worker processes (:class:`WorkerPool`) and is not imported here.
"""

from face.analysis import Analysis, Engine, FaceBox
from face.comparison import (
    DLIB_RESNET_MODEL,
    FINGERPRINT,
    SFACE_MODEL,
    ModelMismatch,
    Score,
    Templates,
    alike_pairs,
    best_score,
    compare,
)
from face.confinement import MECHANISMS
from face.fingerprint import Resemblance, is_copy, resemblance
from face.header import check_header
from face.image_errors import ImageError, ImageUnreadable, UnsupportedMediaType
from face.manifest import engine_id
from face.operating_points import OperatingPoint, operating_points
from face.picture import Header, ImageLimits
from face.pool import ENGINE_FACTORY, JOB_NAME, PoolFull, PoolStats, PoolTimeout, WorkerPool
from face.quality import Quality, QualityFault, QualityThresholds, quality_faults
from face.worker_process import WorkerFailed

__all__ = [
    "DLIB_RESNET_MODEL",
    "ENGINE_FACTORY",
    "FINGERPRINT",
    "JOB_NAME",
    "MECHANISMS",
    "SFACE_MODEL",
    "Analysis",
    "Engine",
    "FaceBox",
    "Header",
    "ImageError",
    "ImageLimits",
    "ImageUnreadable",
    "ModelMismatch",
    "OperatingPoint",
    "PoolFull",
    "PoolStats",
    "PoolTimeout",
    "Quality",
    "QualityFault",
    "QualityThresholds",
    "Resemblance",
    "Score",
    "Templates",
    "UnsupportedMediaType",
    "WorkerFailed",
    "WorkerPool",
    "alike_pairs",
    "best_score",
    "check_header",
    "compare",
    "engine_id",
    "is_copy",
    "operating_points",
    "quality_faults",
    "resemblance",
]
