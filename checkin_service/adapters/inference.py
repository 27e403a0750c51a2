"""A photograph and what an engine says of it, in the Open Inference Protocol: the second version of KServe's and
Triton's, over HTTP in JSON. See docs/decisions/0026-face-tier.md.

One tensor goes, `photograph`, with the picture in base64 (BYTES in JSON are text); one comes back, `answer`, with a
JSON object that has one field. An empty photograph asks the engine who it is.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any

from checkin_service.ports import FaceEngine
from face import Analysis, ImageError, PoolFull, PoolTimeout, WorkerFailed
from face.analysis import analysis_from_json, analysis_to_json
from face.frames import MOST_PHOTO_BYTES
from face.image_errors import error_from_json, error_to_json

PHOTOGRAPH, ANSWER = "photograph", "answer"
MOST_REQUEST_BYTES = 4 * (MOST_PHOTO_BYTES // 3 + 1) + 1024

Reply = Mapping[str, Any]


def infer_path(engine: str) -> str:
    """Where an engine of this name is asked; a server with another one answers 404."""
    return f"/v2/models/{engine}/infer"


def request_of(photo: bytes, job: str) -> bytes:
    """The body of a request. `job`: what both sides call it in their logs; nothing personal."""
    data = base64.b64encode(photo).decode("ascii")
    tensor = {"name": PHOTOGRAPH, "shape": [1], "datatype": "BYTES", "data": [data]}
    return json.dumps({"id": job, "inputs": [tensor]}).encode()


def photo_in(data: str) -> bytes:
    """The picture of a request's tensor. Raises `ValueError` for what is none."""
    return base64.b64decode(data, validate=True)


async def answer(faces: FaceEngine, photo: bytes) -> Reply:
    """What an engine says of a photograph, or why it says nothing: never an exception."""
    if not photo:
        return {"engine": _introduction(faces)}
    try:
        return {"analysis": analysis_to_json(await faces.analyse(photo))}
    except ImageError as refusal:
        return {"refused": error_to_json(refusal)}
    except PoolFull:
        return {"full": True}
    except PoolTimeout as late:
        return {"late": str(late)}
    except WorkerFailed as fault:
        return {"lost": fault.cause}
    except ValueError:
        return {"lost": "TooLarge"}


def _introduction(faces: FaceEngine) -> Reply:
    stats = faces.stats
    return {"model_id": faces.model_id, "ready": stats.ready, "confined_by": stats.confined_by}


def reply_in(body: bytes) -> Reply:
    """The answer in a response's body. Raises `ValueError` for another shape; nothing of the body is in its text."""
    try:
        [output] = json.loads(body)["outputs"]
        [text] = output["data"]
        reply = json.loads(text)
    except (ValueError, KeyError, TypeError):
        raise ValueError("no answer") from None
    if not isinstance(reply, dict):
        raise ValueError("no answer")  # noqa: TRY004 (one kind for the caller to catch)
    return reply


def analysis_in(reply: Reply) -> Analysis:
    """The analysis, or what the engine raised. `WorkerFailed` for another shape."""
    try:
        match reply:
            case {"analysis": record}:
                return analysis_from_json(record)
            case {"refused": record}:
                raise error_from_json(record)
            case {"full": True}:
                raise PoolFull("the tier's workers have all that they can take")
            case {"late": str(text)}:
                raise PoolTimeout(text)
            case {"lost": str(cause)}:
                raise WorkerFailed(f"a worker of the tier was lost ({cause})", cause)
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    raise WorkerFailed("the tier's answer has another shape than an answer's", "unusable")


def introduction_in(reply: Reply, model_id: str) -> tuple[int, tuple[str, ...]] | None:
    """How many workers are ready and what holds them; None for an engine whose scores are another model's.
    Raises `ValueError` for another shape."""
    match reply:
        case {"engine": {"model_id": str(theirs), "ready": int(ready), "confined_by": [*mechanisms]}}:
            return (ready, tuple(map(str, mechanisms))) if theirs == model_id else None
    raise ValueError("no introduction")
