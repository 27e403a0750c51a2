"""A process that owns embedded stores and prints their URLs: python -m tests.embedded.owner DATA_DIR."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from checkin_service.adapters.embedded import EmbeddedError, embedded_stores

if __name__ == "__main__":
    try:
        with embedded_stores(Path(sys.argv[1])) as stores:
            print(json.dumps(asdict(stores)), flush=True)
            sys.stdin.read()
    except EmbeddedError as error:
        sys.exit(str(error))
