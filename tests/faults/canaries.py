"""Things that are easily known again wherever they turn up: what belongs to one person and was sent by them."""

import base64
import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.service.fixed_engine import MODELS, vectors_of
from tests.service.stage import photo_of

PERSON = "p-canary-47110815"
NAME, ADDRESS, NOTE = "欧阳金丝雀", "深圳市金丝雀路4711号", "canary-of-a-reason-47110815"
DEVICE = "canary-device-47110815"
LON, LAT = 114.0600471108, 22.5440471108
TEXTS = {"person": PERSON, "name": NAME, "address": ADDRESS, "reason": NOTE, "device": DEVICE}
PLACES = {"lon": repr(LON), "lat": repr(LAT)}

# Each with its own bytes, and each of one of these.
BREAKS_DOWN, CRASHES = f"{PERSON}-breaks-down", "crash"
SHOTS = 9


@dataclass(frozen=True, slots=True)
class Canary:
    """One thing in every form in which it could be written down."""

    name: str
    forms: frozenset[bytes]

    def is_in(self, content: bytes) -> bool:
        return any(form in content for form in self.forms)


def everything() -> list[Canary]:
    """What belongs in no log, metric, error or file beside the database."""
    return [*_texts(), *pictures(), *vectors()]


def sealed() -> list[Canary]:
    """What is readable in no file at all."""
    return [*pictures(), *vectors()]


def _texts() -> Iterator[Canary]:
    for name, text in (TEXTS | PLACES).items():
        yield Canary(name, frozenset(_written(text)))


def _written(text: str) -> Iterator[bytes]:
    yield text.encode()
    yield quote(text).encode()
    yield json.dumps(text)[1:-1].encode()
    yield repr(text.encode())[2:-1].encode()


def pictures() -> Iterator[Canary]:
    for identity in (PERSON, BREAKS_DOWN, CRASHES):
        for shot in range(SHOTS):
            # the part that names the picture; the one behind is the same grey in all of them
            photo = photo_of(identity, shot)
            yield Canary(f"picture of {identity}", frozenset(_bytes_written(photo[:300], photo)))


def _bytes_written(part: bytes, whole: bytes) -> Iterator[bytes]:
    comment = whole[whole.index(b"\xff\xfe") :][4:60]
    yield comment
    yield comment.hex().encode()
    yield repr(comment)[2:-1].encode()
    yield base64.b64encode(part)[40:]


def vectors() -> Iterator[Canary]:
    for identity in (PERSON, BREAKS_DOWN):
        for shot in range(SHOTS):
            for model, vector in vectors_of(identity, shot).items():
                yield Canary(f"vector of {model}", frozenset(_vector_written(vector)))


def _vector_written(vector: Iterable[float]) -> Iterator[bytes]:
    # the end of a fingerprint is ones and noughts, which are anywhere
    first = list(vector)[:8]
    for form in ("<8f", "<8d"):
        packed = struct.pack(form, *first)
        yield packed
        yield packed.hex().encode()
    yield repr(first[0])[:14].encode()
    yield json.dumps(first[:3])[1:-1].encode()


def found_in(content: bytes, canaries: Iterable[Canary]) -> set[str]:
    return {canary.name for canary in canaries if canary.is_in(content)}


def found_below(folder: Path, canaries: Iterable[Canary]) -> dict[str, set[str]]:
    """By file, of those in which there are any."""
    known = list(canaries)
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_socket())
    seen = {str(path.relative_to(folder)): found_in(path.read_bytes(), known) for path in files}
    return {name: canaries for name, canaries in seen.items() if canaries}


def body() -> Mapping[str, Any]:
    """A JSON body that no route takes, with everything in it that can be said in JSON; as values, for the names of
    fields are told back to who sent them."""
    return {
        "unknown": NAME,
        "name": {"at": [LON, LAT]},
        "reason": [NOTE, ADDRESS],
        "task_id": [PERSON, DEVICE],
        "fixes": [{"lon": LON, "lat": LAT, "who": PERSON}],
        "place": {"registered_address": ADDRESS, "fence": {"coordinates": [LON, LAT]}},
        "vector": list(vectors_of(PERSON)[MODELS[0]]),
        "photo": base64.b64encode(photo_of(PERSON)).decode(),
    }
