"""What a load left behind, compared with what its callers were told: the same for one process and for several."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

from tests.bench.fault import BenchFault
from tests.bench.site import Api
from tests.faults.arrivals import Heed
from tests.service.stage import members_digest

AT_ONCE = 100


async def check(api: Api, judged: Sequence[Heed]) -> int:
    """How many acceptances were looked at. Raises `BenchFault` if one is lost, twice, not in its task's status or not
    exactly once in the feed."""
    told = {heed.answer["check_in_id"]: heed.call.submission for heed in judged}
    rows = await api.stage.sql(
        "SELECT check_in_id::text, task_id, person_id FROM acceptance WHERE check_in_id::text = ANY($1)",
        list(told),
    )
    stored = {row["check_in_id"]: (row["task_id"], row["person_id"]) for row in rows}
    faults = [key for key, sent in told.items() if stored.get(key) != (sent.task_id, sent.person_id)]
    tasks = [sent.task_id for sent in told.values()]
    faults += [task_id async for task_id in _contradictory(api, tasks)]
    faults += [task_id for task_id, times in (await _announced(api, tasks)).items() if times != 1]
    if faults or len(told) != len(judged):
        raise BenchFault(f"{len(faults)} of {len(judged)} are not as callers were told: {faults[:5]}")
    return len(judged)


async def _contradictory(api: Api, task_ids: Sequence[str]) -> AsyncIterator[str]:
    for start in range(0, len(task_ids), AT_ONCE):
        asked = list(task_ids[start : start + AT_ONCE])
        answer = await api.call("POST", "/v1/tasks/query", 200, json={"task_ids": asked})
        found = {task["task_id"]: task for task in answer["tasks"]}
        for task_id in asked:
            if not _is_true(found[task_id]):
                yield task_id


def _is_true(status: dict[str, Any]) -> bool:
    states = [member["state"] for member in status["members"]]
    accepted = status["progress"]["accepted"], states.count("accepted")
    return accepted == (1, 1) and status["members_digest"] == members_digest(status)


async def _announced(api: Api, task_ids: Sequence[str]) -> Counter[str]:
    """How often the feed tells of an acceptance in each."""
    wanted, last = Counter(dict.fromkeys(task_ids, 0)), 0
    async for change in _feed(api):
        seq = int(change["seq"])
        if seq <= last:
            raise BenchFault(f"the feed goes from {last} to {seq}")
        last = seq
        if change["type"] == "member_accepted" and change["task_id"] in wanted:
            wanted[change["task_id"]] += 1
    return wanted


async def _feed(api: Api) -> AsyncIterator[dict[str, Any]]:
    after, more = "", True
    while more:
        page = await api.call("GET", "/v1/changes", 200, params={"after": after})
        for change in page["changes"]:
            yield change
        after, more = page["next"], page["has_more"]
