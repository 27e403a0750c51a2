"""What the services of a promise's test analyse photographs with, and photographs that it knows: chosen here alone.

A test's short form has the engine of fixed answers. The full form of `REAL_IN_FULL` has the real one in its pool of
processes, and altered photographs of one face for everybody. There dlib decides, for by SFace all of them would be each
other's look-alikes, and at the threshold for who is not East Asian, for nor is she whose face it is.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests import portraits
from tests.service.conftest import UNLIMITED
from tests.service.stage import Stage, photo_of, running_service

# By number the promises about what is stored, to which a face is the work between receipt and verdict.
REAL_IN_FULL = {1, 2, 3, 4, 15, 16, 17}


@dataclass(frozen=True, slots=True)
class Engine:
    """`photo_of`: a person's photograph by its number, 0 for the reference's. `settings` are the service's for it."""

    photo_of: Callable[[str, int], bytes]
    in_process: Literal["real"] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def switches(self) -> list[str]:
        """Of `tests.faults.served`."""
        real = ["--analyse-for-real"] if self.in_process == "real" else []
        return [*real, *(f"--set={name}={value}" for name, value in self.settings.items())]

    @asynccontextmanager
    async def stage(self, database_url: str, redis_url: str, data_dir: Path) -> AsyncIterator[Stage]:
        """A running service with it."""
        at = database_url, redis_url, data_dir
        async with running_service(*at, self.in_process, **UNLIMITED, **self.settings) as stage:
            stage.photo_of = self.photo_of
            yield stage


def _of_one_face(_: str, number: int) -> bytes:
    return portraits.hopper_selfie(number) if number else portraits.hopper()


FIXED = Engine(photo_of)
REAL = Engine(
    _of_one_face,
    "real",
    {
        "CHECKIN_FACE_ENGINE": "dlib",
        "CHECKIN_OPERATING_POINT": "lfw_other_1e3",
        # several services share the cores
        "CHECKIN_FACE_WORKERS": "1",
    },
)
