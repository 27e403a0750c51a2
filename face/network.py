"""Networks on onnxruntime: one thread each, because a process serves one core."""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

# From 1.29 on it reports to its maker over the network, by a thread of its own and under an id that it keeps in the
# user's cache, unless this is set before it is loaded.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime


class Network:
    """A network with one input, warm and ready."""

    def __init__(self, path: Path) -> None:
        """Opens a file that was checked before (:mod:`face.models`)."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # A thread that spins while it waits takes the core from its neighbour.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (self._input,) = (given.name for given in self._session.get_inputs())

    def run(self, batch: npt.NDArray[np.generic]) -> list[npt.NDArray[np.float32]]:
        """The outputs in the order of the file."""
        outputs: list[npt.NDArray[np.float32]] = self._session.run(None, {self._input: batch})
        return outputs
