"""Networks as files that onnxruntime can load, made once from the manifest's weights and kept.

A file of the cache is named after the weights and the recipe it was made by, and used only when its digest is the
one written beside it. Whoever finds it missing or damaged makes it anew, one process at a time, in a process of its
own: the libraries that convert need more memory than a worker has.
"""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from face.manifest import (
    DLIB_RESNET,
    MINIFASNET_V1SE,
    MINIFASNET_V2,
    SFACE,
    YUNET,
    WeightFile,
    WeightsError,
    file_digest,
    verified_path,
)

_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is made: by ``converter`` ("module:function", bytes to an ``onnx.ModelProto``) from ``weights``.

    ``version`` changes with the converter's output.
    """

    name: str
    weights: WeightFile
    converter: str
    version: int = 1

    @property
    def file_name(self) -> str:
        return f"{self.name}-{self.weights.sha256[:8]}-{self.version}.onnx"


_MINIFASNET = "face.conversion.minifasnet:minifasnet"

YUNET_NETWORK = Recipe("yunet", YUNET, "face.conversion.opencv_zoo:yunet", version=2)
YUNET_LARGE_NETWORK = Recipe("yunet-large", YUNET, "face.conversion.opencv_zoo:yunet_for_large_faces")
SFACE_NETWORK = Recipe("sface", SFACE, "face.conversion.opencv_zoo:sface", version=3)
MINIFASNET_V2_NETWORK = Recipe("minifasnet-v2", MINIFASNET_V2, _MINIFASNET)
MINIFASNET_V1SE_NETWORK = Recipe("minifasnet-v1se", MINIFASNET_V1SE, _MINIFASNET)
DLIB_NETWORK = Recipe("dlib-resnet", DLIB_RESNET, "face.conversion.dlib_resnet:dlib_resnet")


def ready_network(recipe: Recipe, cache_dir: Path, models_dir: Path | None = None) -> Path:
    """The network's file, made if need be. Raises :class:`WeightsError`, also when the cache is good but the weights
    are not: an altered file must not stay unseen for as long as the cache lives."""
    weights = verified_path(recipe.weights, models_dir)
    network = cache_dir / recipe.file_name
    if _is_intact(network):
        return network
    cache_dir.mkdir(parents=True, exist_ok=True)
    with _only_one(network):
        if not _is_intact(network):
            _make(recipe, weights, network)
    return network


def _is_intact(network: Path) -> bool:
    try:
        return _digest_file(network).read_text("ascii") == _digest_line(network)
    except (OSError, UnicodeDecodeError):
        return False


def _make(recipe: Recipe, weights: Path, network: Path) -> None:
    draft = network.with_suffix(".draft")
    command = [
        sys.executable,
        "-P",
        "-s",
        "-m",
        "face.conversion",
        recipe.converter,
        str(weights),
        str(draft),
    ]
    environment = os.environ | {"PYTHONPATH": str(_ROOT)}
    made = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)  # noqa: S603
    if made.returncode != 0:
        reason = (made.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise WeightsError(f"{recipe.file_name} could not be made from {weights}: {reason}")
    draft.replace(network)
    _digest_file(network).write_text(_digest_line(network), "ascii")


def _digest_file(network: Path) -> Path:
    return network.with_suffix(".onnx.sha256")


def _digest_line(network: Path) -> str:
    """As ``sha256sum --check`` reads it."""
    return f"{file_digest(network)}  {network.name}\n"


@contextmanager
def _only_one(network: Path) -> Iterator[None]:
    """Waits until no other process makes this network. The lock ends with its holder, however that ends."""
    with network.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
