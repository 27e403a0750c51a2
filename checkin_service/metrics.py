"""Prometheus metrics, named by its conventions. No label holds anything personal."""

from collections.abc import Mapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from checkin_service.adapters.postgres.calendars import Reach
from checkin_service.domain.calendar import end_of
from checkin_service.domain.reasons import Reason
from face import MECHANISMS, PoolStats


class Metrics:
    """One registry a process; tests make as many as they like."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._failures_told = 0
        self.requests = Histogram(
            "checkin_request_duration_seconds",
            "Time to answer by method, route and status",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.check_ins = Counter(
            "checkin_check_ins", "Judged check-ins by outcome", ["outcome"], registry=self.registry
        )
        self.reasons = Counter(
            "checkin_reasons", "Reasons of judged check-ins", ["reason"], registry=self.registry
        )
        self.repeats = Counter(
            "checkin_repeats", "Check-ins of members who were accepted before", registry=self.registry
        )
        self.left_out = Counter(
            "checkin_look_alike_left_out",
            "Roster members whom a check-in was not compared with, by why: consent, template, seal",
            ["why"],
            registry=self.registry,
        )
        self.connection_seconds = Counter(
            "checkin_database_connection_seconds",
            "Time for which connections were held",
            registry=self.registry,
        )
        self.cut_connections = Counter(
            "checkin_connections_cut",
            "Connections ended by us, by why: idle, answer (late or unread), crowded",
            ["why"],
            registry=self.registry,
        )
        self.redis_failures = Counter(
            "checkin_redis_failures", "Rate limits left open because Redis failed", registry=self.registry
        )
        self.shed = Counter(
            "checkin_shed",
            "Calls answered 503 before they were read, by class: retry, submission, enrolment, poll",
            ["urgency"],
            registry=self.registry,
        )
        self.deferred = Counter(
            "checkin_deferred", "Submissions taken near a deadline to be judged later", registry=self.registry
        )
        self.deferred_waiting = Gauge(
            "checkin_deferred_waiting",
            "Submissions taken that wait for their verdict",
            registry=self.registry,
        )
        self.deferred_oldest = Gauge(
            "checkin_deferred_oldest_seconds",
            "How long the first of them waits; people are promised five minutes",
            registry=self.registry,
        )
        self.event_loop_lag = Gauge(
            "checkin_event_loop_lag_seconds", "How late the event loop is", registry=self.registry
        )
        self.wechat_calls = Counter(
            "checkin_wechat_calls",
            "Calls of WeChat's server by result: ok, refused, unreachable",
            ["call", "result"],
            registry=self.registry,
        )
        self.wechat_results = Counter(
            "checkin_wechat_results",
            "What WeChat's face verification said of check-ins, by its number",
            ["verify_ret"],
            registry=self.registry,
        )
        self.spans_dropped = Counter(
            "checkin_spans_dropped", "Spans that no collector has taken", registry=self.registry
        )
        self.calendar_end = Gauge(
            "checkin_calendar_end_timestamp_seconds",
            "When the last published day ends, in seconds since 1970",
            registry=self.registry,
        )
        self.provisional_tasks = Gauge(
            "checkin_provisional_tasks",
            "Tasks whose window waits for the next calendar",
            registry=self.registry,
        )
        self.overdue_reviews = Gauge(
            "checkin_overdue_reviews",
            "Reviews undecided five working days after their window",
            registry=self.registry,
        )
        self.face_jobs = Gauge("checkin_face_queue_length", "Photographs waiting", registry=self.registry)
        self.face_workers = Gauge("checkin_face_workers_ready", "Face workers ready", registry=self.registry)
        self.face_seconds = Gauge(
            "checkin_face_analysis_seconds", "What a photograph takes in a worker", registry=self.registry
        )
        self.face_failures = Counter(
            "checkin_face_worker_failures",
            "Workers lost to a crash, a hang or memory",
            registry=self.registry,
        )
        self.faces_confined = Gauge(
            "checkin_face_workers_confined",
            "1 where this mechanism of the kernel holds the face workers",
            ["by"],
            registry=self.registry,
        )

        self.face_tier_away = Gauge(
            "checkin_face_tier_away", "Replicas of the face tier that do not answer", registry=self.registry
        )

    def count_left_out(self, why: str, members: int) -> None:
        self.left_out.labels(why).inc(members)

    def observe_calendar(self, reach: Reach) -> None:
        self.calendar_end.set(end_of(reach.last_day).timestamp())
        self.provisional_tasks.set(reach.provisional_tasks)

    def observe_faces(self, stats: PoolStats) -> None:
        """The face workers as they are now, for the scrape that is about to read them."""
        self.face_jobs.set(stats.waiting)
        self.face_workers.set(stats.ready)
        # the pool counts from its start; so does this, at each scrape by as many as there are more
        self.face_failures.inc(stats.failures - self._failures_told)
        self._failures_told = stats.failures
        for mechanism in MECHANISMS:
            self.faces_confined.labels(mechanism).set(mechanism in stats.confined_by)
        self.face_seconds.set(stats.analysis_s)
        self.face_tier_away.set(len(stats.absent or ()))

    def observe_backlog(self, waiting: int, oldest_s: float) -> None:
        self.deferred_waiting.set(waiting)
        self.deferred_oldest.set(oldest_s)

    def count_check_in(self, answer: Mapping[str, Any]) -> None:
        """A new answer to a submission, as it is stored."""
        codes = [reason["code"] for reason in answer["reasons"]]
        if Reason.ALREADY_CHECKED_IN in codes:
            self.repeats.inc()
            return
        self.check_ins.labels(answer["outcome"]).inc()
        for code in codes:
            self.reasons.labels(code).inc()

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)
