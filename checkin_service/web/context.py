"""What handlers work with, wired once in `app.py`."""

from dataclasses import dataclass
from uuid import UUID

from aiohttp import web

from checkin_service.adapters.postgres.database import Database
from checkin_service.adapters.postgres.watch import Watch
from checkin_service.adapters.rate_limit import RateLimit
from checkin_service.adapters.receipt_keys import ReceiptKeys
from checkin_service.adapters.template_keys import TemplateKeys
from checkin_service.adapters.token_keys import TokenKeys
from checkin_service.domain.decision import Policy
from checkin_service.metrics import Metrics
from checkin_service.ports import Clock, FaceEngine, Liveness, ObjectStore
from checkin_service.settings import Settings
from checkin_service.tracing import Traces
from checkin_service.usecases.caller import Caller
from checkin_service.usecases.viewings import Viewings
from checkin_service.web.admission import Admission
from checkin_service.web.messages import Language, negotiate
from geofence import Box


@dataclass(frozen=True, slots=True)
class Services:
    settings: Settings
    database: Database
    installation_id: UUID
    keys: TemplateKeys
    token_keys: TokenKeys
    receipt_keys: ReceiptKeys
    evidence: ObjectStore
    faces: FaceEngine
    policy: Policy
    liveness: Liveness | None
    rate_limit: RateLimit
    metrics: Metrics
    admission: Admission
    traces: Traces | None
    box: Box
    clock: Clock
    watch: Watch
    viewings: Viewings


SERVICES = web.AppKey("services", Services)
CALLER = web.RequestKey("caller", Caller)
TOKEN_ENDS_AT = web.RequestKey("token_ends_at", float)
REQUEST_ID = web.RequestKey("request_id", str)


def services(request: web.Request) -> Services:
    return request.app[SERVICES]


def caller(request: web.Request) -> Caller:
    return request[CALLER]


def language(request: web.BaseRequest) -> Language:
    return negotiate(request.headers.get("Accept-Language"))
