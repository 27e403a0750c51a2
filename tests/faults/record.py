"""What a promise's tests have seen, for the one line that `make faults` prints of it."""

import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Record:
    """Figures of one promise. Appended to the file that CHECKIN_FAULTS_RECORD names, one JSON object a line."""

    promise: int

    def kept(self, figures: str) -> None:
        """Said once the promise was seen to hold: "10000 submissions, 52 kills, 0 lost, 0 twice"."""
        self._append("kept", figures)

    def control(self, figures: str) -> None:
        """Said once the same test was seen to fail with the defence switched off: what it lost or let in."""
        self._append("control", figures)

    def _append(self, kind: str, figures: str) -> None:
        if named := os.environ.get("CHECKIN_FAULTS_RECORD"):
            with Path(named).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"promise": self.promise, kind: figures}) + "\n")
