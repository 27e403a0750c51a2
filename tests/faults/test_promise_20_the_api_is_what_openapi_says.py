"""Promise 20: the API is what openapi.yaml says, by Schemathesis with all its checks, by every scope, one call after
another. What is tried and how stands in tests/contract/test_schemathesis.py, which runs in `make test` too; here more
is drawn."""

from collections.abc import Iterator

import pytest
from schemathesis.checks import CHECKS

from checkin_service.web.routes import ROUTES
from tests.contract.live_service import live_service
from tests.contract.stand_ins import Things
from tests.contract.test_schemathesis import (
    REFUSED,
    SCOPES,
    STATUS,
    TRIED,
    _rev_is_text,
    label,
    tried_document,
)
from tests.contract.trial import Trial, try_out
from tests.faults.record import Record


@pytest.fixture(scope="module")
def things() -> Iterator[Things]:
    with live_service() as running:
        yield Things(running)


def assert_clean(trial: Trial, *phases: str) -> None:
    assert trial.failures == {}
    assert trial.errors == []
    assert {trial.phases[phase] for phase in phases} == {"success"}


def test_every_call_by_who_may_make_it(things: Things, full: bool, record: Record) -> None:
    phases = ("examples", "coverage", "fuzzing") if full else ("fuzzing",)
    trial = try_out(things, tried_document(), examples=40 if full else 1, checks=TRIED, phases=phases)
    assert_clean(trial, *phases)
    if full:
        assert trial.checks == set(CHECKS.get_all_names()) - {"max_response_time"}
    for route in ROUTES:
        assert any(name == label(route) for name, _, _ in trial.answers), label(route)
    record.kept(
        f"{trial.answers.total()} calls of {len(ROUTES)} operations, {len(trial.checks)} checks, clean"
    )


def test_one_call_after_another(things: Things, full: bool, record: Record) -> None:
    tags = ("tasks", "persons", "check-in", "reviews") if full else ("tasks",)
    trial = try_out(
        things,
        tried_document(),
        examples=40 if full else 2,
        checks=TRIED,
        phases=["stateful"],
        tag=list(tags),
    )
    assert_clean(trial, "stateful")
    assert any(200 <= status < 300 for _, status in trial.links)
    record.kept(f"{trial.links.total()} calls that followed another's link, clean")


def test_every_call_by_who_may_not(things: Things, full: bool, record: Record) -> None:
    trial = try_out(
        things,
        tried_document(),
        examples=20 if full else 1,
        scopes_of=lambda route: SCOPES - route.scopes,
        checks=REFUSED,
        phases=["fuzzing"],
        # what is for everyone is tried above
        path_regex="^/v1/(?!receipt-keys)",
    )
    assert_clean(trial, "fuzzing")
    assert not any(200 <= status < 300 for _, _, status in trial.answers)
    record.kept(f"{trial.answers.total()} calls by other scopes refused, clean")


def test_an_untrue_document_is_found_out(things: Things, record: Record) -> None:
    document = tried_document()
    _rev_is_text(document)
    trial = try_out(things, document, examples=1, checks=TRIED, phases=["coverage"], name=STATUS)
    assert trial.failures[STATUS]
    record.control(f"{len(trial.failures[STATUS])} failures where the document is untrue in one word")
