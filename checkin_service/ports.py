"""Interfaces with more than one implementation."""

from typing import Protocol

from face import Analysis, PoolStats


class FaceEngine(Protocol):
    """Analyses photographs; the worker pool in service, a fixed-answer one in tests."""

    @property
    def model_id(self) -> str:
        """The model whose score decides."""
        ...

    @property
    def stats(self) -> PoolStats:
        """Workers and queue as they are now."""
        ...

    async def analyse(self, photo: bytes) -> Analysis:
        """Faces, quality and templates of one photograph (JPEG or PNG).

        Raises `face.ImageError` for a picture that can't be used; `PoolFull`, `PoolTimeout` or `WorkerFailed`
        when no worker could.
        """
        ...
