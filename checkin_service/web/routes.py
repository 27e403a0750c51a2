"""Every URL of the service with its handler and the scopes that may call it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from checkin_service.web import (
    audit,
    check_ins,
    desk,
    events,
    manual_requests,
    me,
    operations,
    pages,
    persons,
    receipts,
    reports,
    reviews,
    tasks,
)
from checkin_service.web.admission import Urgency
from checkin_service.web.auth import authenticate
from checkin_service.web.context import CALLER, services

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    handler: Handler
    scopes: frozenset[str] = frozenset()

    @property
    def only_reads(self) -> bool:
        return self.method == "GET" or self.handler is tasks.query


PLATFORM = frozenset({"tasks"})
READERS = frozenset({"tasks", "review"})
PERSON = frozenset({"checkin"})
REVIEWERS = frozenset({"review"})
OVERSEERS = frozenset({"operate", "review"})
EVERY_AUTHORITY = frozenset({"tasks", "review", "operate"})
SCOPES = sorted(PERSON | EVERY_AUTHORITY)

ROUTES = (
    Route("PUT", "/v1/tasks/{task_id}", tasks.register, PLATFORM),
    Route("GET", "/v1/tasks/{task_id}", tasks.status, READERS),
    Route("POST", "/v1/tasks/query", tasks.query, READERS),
    Route("POST", "/v1/tasks/{task_id}/void", tasks.void, PLATFORM),
    Route("POST", "/v1/tasks/{task_id}/extend", tasks.extend, PLATFORM),
    Route("POST", "/v1/tasks/{task_id}/fence", tasks.fence, PLATFORM),
    Route("POST", "/v1/tasks/{task_id}/suspend", tasks.suspend, PLATFORM),
    Route("POST", "/v1/tasks/{task_id}/resume", tasks.resume, PLATFORM),
    Route("POST", "/v1/tasks/{task_id}/members/{person_id}/revoke", tasks.revoke, READERS),
    Route("POST", "/v1/tasks/{task_id}/close", tasks.close, PLATFORM),
    Route("GET", "/v1/tasks/{task_id}/why-not", reports.why_not, READERS),
    Route("GET", "/v1/tasks/{task_id}/readiness", reports.readiness, READERS),
    Route("GET", "/v1/tasks/{task_id}/statistics", reports.task_statistics, READERS),
    Route("GET", "/v1/cases/{case_id}", tasks.case, READERS),
    Route("GET", "/v1/changes", tasks.changes, PLATFORM),
    Route("PUT", "/v1/persons/{person_id}/reference", persons.enrol, PLATFORM),
    Route("GET", "/v1/persons/{person_id}/reference", persons.reference, PLATFORM),
    Route("GET", "/v1/persons/{person_id}/export", persons.export, PLATFORM),
    Route("DELETE", "/v1/persons/{person_id}", persons.erase, PLATFORM),
    Route("GET", "/v1/me", me.overview, PERSON),
    Route("GET", "/v1/me/export", me.export, PERSON),
    Route("GET", "/v1/consent-notice", me.consent_notice, PERSON),
    Route("PUT", "/v1/me/consent", me.give_consent, PERSON),
    Route("DELETE", "/v1/me/consent", me.withdraw_consent, PERSON),
    Route("POST", "/v1/challenges", check_ins.challenge, PERSON),
    Route("PUT", "/v1/challenges/{challenge_id}/burst/{n}", check_ins.burst, PERSON),
    Route("POST", "/v1/check-ins", check_ins.submit, PERSON),
    Route("GET", "/v1/check-ins/{check_in_id}", check_ins.read, PERSON),
    Route("POST", "/v1/manual-requests", manual_requests.ask, PERSON),
    Route("GET", "/v1/manual-requests/{manual_request_id}", manual_requests.read, PERSON),
    Route("GET", "/v1/reviews", reviews.queue, REVIEWERS),
    Route("GET", "/v1/reviews/{review_id}", reviews.evidence, REVIEWERS),
    Route("GET", "/v1/reviews/{review_id}/selfie", reviews.selfie, REVIEWERS),
    Route("POST", "/v1/reviews/{review_id}/decision", reviews.decide, REVIEWERS),
    Route("GET", "/v1/tasks", desk.listing, REVIEWERS),
    Route("GET", "/v1/tasks/{task_id}/registration", desk.registration, REVIEWERS),
    Route("GET", "/v1/tasks/{task_id}/attempts", desk.attempts, REVIEWERS),
    Route("GET", "/v1/events", events.stream, REVIEWERS),
    Route("GET", "/v1/receipt-keys", receipts.key_set),
    Route("GET", "/v1/audit/head", audit.head, EVERY_AUTHORITY),
    Route("GET", "/v1/statistics", reports.period_statistics, OVERSEERS),
    Route("GET", "/livez", operations.livez),
    Route("GET", "/readyz", operations.readyz),
    Route("GET", "/metrics", operations.metrics),
    Route("GET", "/openapi.yaml", operations.openapi),
)

# For browsers: no part of the API, and not in its document.
PAGES = (
    Route("GET", "/app", pages.redirect),
    Route("GET", "/app/", pages.app_page),
    Route("GET", "/app/{version}/{file}", pages.app_file),
    Route("GET", "/console", pages.redirect),
    Route("GET", "/console/", pages.console_page),
    Route("GET", "/console/{version}/{file}", pages.console_file),
    Route("GET", "/docs", pages.redirect),
    Route("GET", "/docs/", pages.docs_page),
    Route("GET", "/docs/{version}/{file}", pages.docs_file),
)


def add_routes(app: web.Application) -> None:
    for route in (*ROUTES, *PAGES):
        handler = _guarded(route) if route.scopes else route.handler
        # what can be got can also be asked for without its body
        methods = ("GET", "HEAD") if route.method == "GET" else (route.method,)
        for method in methods:
            app.router.add_route(method, route.path, handler, expect_handler=_expected)


async def _expected(_: web.Request) -> None:
    """Nothing yet: a body is asked for when it is read, see `body.receive`."""


def _guarded(route: Route) -> Handler:
    urgency = Urgency.POLL if route.only_reads else Urgency.RETRY

    async def handle(request: web.Request) -> web.StreamResponse:
        # the last to be shed, for any other call: those with photographs weigh their own class
        services(request).admission.check(urgency)
        request[CALLER] = await authenticate(request, route.scopes)
        return await route.handler(request)

    return handle
