"""Odd and hostile pictures through the API, with the real engine: each as its label says, and never a 5xx."""

from pathlib import Path

from checkin_service.adapters.embedded import EmbeddedStores
from tests.face.test_edge_pictures import REFUSED, TOO_SMALL, UPRIGHT
from tests.service.conftest import UNLIMITED
from tests.service.stage import Reply, running_service

REFUSING_STATUS = {"unsupported_media_type": 415, "image_unreadable": 422}
REFUSALS = {name: f"{REFUSING_STATUS[code]} {code}" for name, code in REFUSED.items()}


async def test_each_picture_is_judged_by_its_label_and_none_costs_an_accepted_check_in(
    database_url: str, stores: EmbeddedStores, shared: Path, tmp_path: Path
) -> None:
    folder = shared / "data" / "images_edge"
    pictures = {name: (folder / name).read_bytes() for name in (*UPRIGHT, *TOO_SMALL, *REFUSED)}
    people = shared / "data" / "portraits" / "fr_barack_obama"
    reference, portrait = ((people / name).read_bytes() for name in ("2.jpg", "4.jpg"))
    async with running_service(database_url, stores.redis_url or "", tmp_path, "real", **UNLIMITED) as stage:
        enrolled = {name: said(await stage.enrol("p-edge", picture)) for name, picture in pictures.items()}
        checked_in = {}
        for name, picture in pictures.items():
            # nearly all are one photograph, which counts once a person
            task_id = person_id = name.replace(".", "-")
            assert (await stage.enrol(person_id, reference)).status == 201
            await stage.consent(person_id)
            await stage.register(task_id, person_id)
            checked_in[name] = said(await stage.check_in(person_id, task_id, selfie=picture))
            # whatever the picture did, the right one still counts
            right = await stage.check_in(person_id, task_id, selfie=portrait)
            assert (await stage.status(task_id))["state"] == "completed", (
                name,
                checked_in[name],
                said(right),
            )
    assert enrolled == (
        dict.fromkeys(UPRIGHT, "201") | dict.fromkeys(TOO_SMALL, "422 poor_quality too_small") | REFUSALS
    )
    assert checked_in == (
        dict.fromkeys(UPRIGHT, "201 accepted") | dict.fromkeys(TOO_SMALL, "201 poor_quality") | REFUSALS
    )


def said(reply: Reply) -> str:
    """Status and codes."""
    if reply.status == 201:
        codes = [reason["code"] for reason in reply.body.get("reasons", [])] or [
            reply.body.get("outcome", "")
        ]
    else:
        codes = [error["code"] for error in reply.body["errors"]] or [reply.code]
    return " ".join([str(reply.status), *codes]).strip()
