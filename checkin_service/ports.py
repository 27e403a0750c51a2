"""Interfaces with more than one implementation."""

from collections.abc import Sequence
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


class Liveness(Protocol):
    """What a challenge asks of a person, and whether frames show it; turns of the head, or another provider's."""

    def actions(self) -> Sequence[str]:
        """A new challenge's actions, in order."""
        ...

    def judge(self, frames: Sequence[Sequence[Sequence[float]]], actions: Sequence[str]) -> str:
        """`passed`, or a code that says what was not seen. `frames`: five landmarks each (x, y in pixels)."""
        ...
