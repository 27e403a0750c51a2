"""A replica of the face tier: the service's own face workers behind KServe's model server, `python -m checkin_service
face-tier`. See docs/decisions/0026-face-tier.md.

The server is told a photograph and tells what the pool says of it; pictures are decoded in the workers alone. What it
logs of its own goes through `logs.py`, which keeps sentences and tracebacks back.
"""

import asyncio
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import kserve
from kserve import model_server
from prometheus_client import REGISTRY, Metric

from checkin_service.adapters.inference import ANSWER, MOST_REQUEST_BYTES, PHOTOGRAPH, answer, photo_in
from checkin_service.metrics import Metrics
from checkin_service.ports import FaceEngine
from checkin_service.settings import Settings
from face import JOB_NAME

Message = Mapping[str, Any]
Asgi = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
OpenFaces = Callable[[Settings], AbstractAsyncContextManager[FaceEngine]]

DRAIN_S = 30
_OTHER_MODELS = 404
OPEN_PATHS = ("/v2/health/live", "/metrics")


class FaceModel(kserve.Model):  # type: ignore[misc]  # KServe has no types
    """The pool as a model. It is ready while one of its workers is."""

    def __init__(self, name: str, faces: AbstractAsyncContextManager[FaceEngine]) -> None:
        super().__init__(name)
        self.engine = True
        # the server takes no model that is not; whether it is to be asked, `healthy` says
        self.ready = True
        self._opening = faces
        self._faces: FaceEngine | None = None
        self._stopped = asyncio.Event()

    def start(self) -> None:
        """The workers are children of the server's event loop, which does not run as yet."""

    async def start_engine(self) -> None:
        async with self._opening as self._faces:
            REGISTRY.register(_Workers(self._faces))
            await self._stopped.wait()
        self._faces = None

    def stop_engine(self) -> None:
        self._stopped.set()

    async def healthy(self) -> bool:
        return self._faces is not None and self._faces.stats.ready > 0

    def get_input_types(self) -> list[dict[str, Any]]:
        return [{"name": PHOTOGRAPH, "datatype": "BYTES", "shape": [1]}]

    def get_output_types(self) -> list[dict[str, Any]]:
        return [{"name": ANSWER, "datatype": "BYTES", "shape": [1]}]

    async def predict(self, payload: Any, _headers: Mapping[str, str] | None = None) -> Any:
        assert self._faces is not None
        JOB_NAME.set(payload.id or "")
        told = json.dumps(await answer(self._faces, _photograph(payload)))
        output = kserve.InferOutput(ANSWER, [1], "BYTES", [told])
        return kserve.InferResponse(payload.id or "", self.name, [output])


class _Workers:
    """The metrics of the face workers, named as the service's, among those that KServe tells."""

    def __init__(self, faces: FaceEngine) -> None:
        self._faces = faces
        self._metrics = Metrics()

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        self._metrics.observe_faces(self._faces.stats)
        told = self._metrics.registry.collect()
        return (metric for metric in told if metric.name.startswith("checkin_face_"))


def _photograph(payload: Any) -> bytes:
    """Raises `InvalidInput`, without a word of what came."""
    try:
        [tensor] = payload.inputs
        [data] = tensor.data
        return photo_in(data)
    except (ValueError, TypeError, AttributeError):
        raise kserve.errors.InvalidInput("one photograph in base64 is expected") from None


class Guard:
    """Lets nobody ask without the token, and nothing be asked but an analysis: the server's other routes take models
    away and tell of themselves."""

    def __init__(self, app: Asgi, *, token: str, engine: str) -> None:
        self._app = app
        self._bearer = f"Bearer {token}".encode()
        self._model = f"/v2/models/{engine}"

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] == "http" and (status := self._refusal(scope)):
            if status == _OTHER_MODELS:
                await _pass_over(receive)
            await send(
                {"type": "http.response.start", "status": status, "headers": [(b"connection", b"close")]}
            )
            await send({"type": "http.response.body", "body": b""})
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Message) -> int | None:
        headers = dict(scope["headers"])
        path = scope["path"]
        if scope["method"] == "GET" and path in {*OPEN_PATHS, f"{self._model}/ready"}:
            return None
        if not hmac.compare_digest(headers.get(b"authorization", b""), self._bearer):
            return 401
        if _length(headers) > MOST_REQUEST_BYTES:
            return 413
        return None if (scope["method"], path) == ("POST", f"{self._model}/infer") else _OTHER_MODELS


async def _pass_over(receive: Callable[[], Awaitable[Message]]) -> None:
    """So that who still sends a picture reads the answer, and not that the connection is gone."""
    while (await receive()).get("more_body"):
        pass


def _length(headers: Mapping[bytes, bytes]) -> float:
    """Of the body; endless where the head does not say."""
    given = headers.get(b"content-length", b"" if b"transfer-encoding" in headers else b"0")
    return int(given) if given.isdigit() else float("inf")


def serve_tier(settings: Settings, open_faces: OpenFaces, engine: str, token: str) -> None:
    """Answers until SIGTERM, and finishes what it has. Raises `OSError` for a port that is taken."""
    # with handlers of their own, they would quote what they were sent
    for name in ("kserve", "kserve.trace"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    model_server.app.add_middleware(Guard, token=token, engine=engine)
    server = kserve.ModelServer(
        http_port=settings.port,
        workers=1,
        enable_grpc=False,
        enable_latency_logging=False,
        grace_period=DRAIN_S,
        ssl_certfile=settings.face_tier_cert_file,
        ssl_keyfile=settings.face_tier_key_file,
    )
    server.start([FaceModel(engine, open_faces(settings))])
