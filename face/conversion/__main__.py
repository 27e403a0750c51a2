"""``python -m face.conversion MODULE:FUNCTION WEIGHTS NETWORK`` makes one network; see :mod:`face.models`."""

import sys
from importlib import import_module
from pathlib import Path

if __name__ == "__main__":
    converter, weights, network = sys.argv[1:]
    module, _, function = converter.partition(":")
    model = getattr(import_module(module), function)(Path(weights).read_bytes())
    Path(network).write_bytes(model.SerializeToString(deterministic=True))
