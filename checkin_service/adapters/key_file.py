"""Files with secret keys: made once, readable by their owner only."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class KeyFileError(RuntimeError):
    """The key file can't be used; the message says which and what to do."""


def create_key_file(path: Path, fresh: Callable[[], Mapping[str, Any]]) -> None:
    """Makes an absent file of what `fresh` gives, as JSON; one that is there, or comes meanwhile, stays."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(fresh(), file, indent=1)
    try:
        # never over a file that another process made meanwhile
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
