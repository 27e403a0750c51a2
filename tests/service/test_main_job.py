"""The main job from registration to completion, as the platform and a person live it."""

from tests.service.stage import FAR, INSIDE, Stage, members_digest, photo_of


async def test_a_task_is_completed_by_its_people(stage: Stage) -> None:
    registered = await stage.register("T1", "p-1", "p-2")
    assert (registered.status, registered.body["state"]) == (201, "pending_material")
    for person_id in ("p-1", "p-2"):
        assert (await stage.enrol(person_id)).status == 201
        assert (await stage.consent(person_id)).status == 200
    assert (await stage.status("T1"))["state"] == "open"

    refused = await stage.check_in("p-1", "T1", at=FAR)
    assert (refused.body["outcome"], refused.reasons) == ("rejected", ["outside_geofence"])
    impostor = await stage.check_in("p-1", "T1", selfie=photo_of("p-2"))
    assert impostor.reasons == ["non_match"]

    accepted = await stage.check_in("p-1", "T1", at=INSIDE)
    assert accepted.body["outcome"] == "accepted"
    assert accepted.body["location"] == {"zone": "inside", "distance_m": 0}
    assert accepted.body["task"] == {"state": "open", "accepted": 1, "total": 2}
    assert accepted.body["attempts_left"] == 8

    assert (await stage.check_in("p-2", "T1")).body["task"]["state"] == "completed"
    status = await stage.status("T1")
    assert status["progress"] == {"total": 2, "accepted": 2, "in_review": 0}
    assert status["members_digest"] == members_digest(status)
    assert [change["type"] for change in await stage.changes()] == [
        "task_registered",
        "material_ready",
        "material_ready",
        "member_accepted",
        "member_accepted",
        "task_completed",
    ]
