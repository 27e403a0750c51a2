"""The report on the rules around the comparison: hand-computed on places on a line, and on portraits."""

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from checkin_service.app import LOOK_ALIKE_MARGINS
from face import DLIB_RESNET_MODEL, FINGERPRINT, SFACE_MODEL, Templates
from face.engine import PhotoEngine
from face.evaluate_rules import MARGIN, evaluate, main
from face.evaluation import duplicates
from face.evaluation.altered import ALTERED
from face.evaluation.comparisons import Group, compared, describe_all
from face.evaluation.duplicates import Catches, catches, false_alarms
from face.evaluation.engines import describer, nearness
from face.evaluation.exact import exact_rate
from face.evaluation.fusion import gain
from face.evaluation.labels import LabelledSet, Photo, read_labels
from face.evaluation.rates import GroupRates, Rate, threshold_at
from face.evaluation.references import DRAWS, Several, several_references
from face.evaluation.rosters import LookAlikes, look_alikes
from face.evaluation.tables import as_records, as_table
from tests import portraits

MODEL = "line"
PHOTOS = {
    "hopper": (portraits.hopper, portraits.hopper_altered),
    "astronaut": (portraits.astronaut, portraits.astronaut_altered),
}


def group_of(persons: Mapping[str, Sequence[float | None]]) -> Group:
    """Photographs are places on a line, alike by 1 minus their distance; None shows no face."""
    photos = [
        Photo(person, f"{person}/{n}", "g") for person, all_ in persons.items() for n in range(len(all_))
    ]
    places = [place for all_ in persons.values() for place in all_]
    return compared("g", photos, [None if p is None else {MODEL: (p,)} for p in places], nearness(MODEL))


def silent(done: int, of: int) -> None:
    """No progress."""


def on_disk(folder: Path, photos: Mapping[str, Sequence[bytes]], group: str = "g") -> LabelledSet:
    folder.mkdir()
    rows = ["person\tfile\tgroup"]
    for person, all_ in photos.items():
        for number, photo in enumerate(all_):
            (folder / f"{person}_{number}").write_bytes(photo)
            rows.append(f"{person}\t{person}_{number}\t{group}")
    (folder / "labels.tsv").write_text("\n".join(rows) + "\n", "utf-8")
    return read_labels(folder)


@pytest.fixture
def labelled(tmp_path: Path) -> LabelledSet:
    """Two persons, two portraits each."""
    return on_disk(tmp_path / "set", {person: [make() for make in all_] for person, all_ in PHOTOS.items()})


@pytest.fixture
def two_kinds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Some of the copies, so that a test takes seconds."""
    kinds = ["re-encoded at quality 40", "mirrored"]
    monkeypatch.setattr(duplicates, "ALTERED", {kind: ALTERED[kind] for kind in kinds})
    return kinds


# --- duplicate_photo ---


def test_photographs_of_one_person_are_no_copies_and_a_sent_again_one_is(
    tmp_path: Path, labelled: LabelledSet, engine: PhotoEngine
) -> None:
    described = describe_all(labelled, describer(engine), silent)
    found, of_the_group = false_alarms(described)
    assert (found.group, of_the_group.group) == ("all", "g")
    assert found.pairs == found.on_one_day == found.persons == exact_rate(0, 2)
    again = ALTERED["mirrored"](portraits.hopper())
    several = {"hopper": [portraits.hopper(), again], "astronaut": [portraits.astronaut()]}
    described = describe_all(on_disk(tmp_path / "again", several), describer(engine), silent)
    found = false_alarms(described)[0]
    assert found.pairs == found.persons == exact_rate(1, 1)  # who has one photograph has no pair
    assert found.least_distance is not None
    assert found.least_distance < 0.15


def kept(place: float, bits: int, mirror: float = 99) -> Templates:
    """``place`` and ``mirror`` are dlib's first numbers, and the first ``bits`` of the hash are set."""
    rest = [0.0] * 127
    code = [1.0] * bits + [0.0] * (64 - bits)
    return {DLIB_RESNET_MODEL: [place, *rest], FINGERPRINT: [mirror, *rest, *code, *[0.5] * 64]}


def test_a_distance_counts_but_not_on_one_day() -> None:
    photos = [Photo(person, person + n, group) for person, group in (("a", "x"), ("b", "y")) for n in "123"]
    places = [(0.0, 0), (0.1, 40), (1.0, 20), (0.0, 0), (0.5, 3), (1.0, 20)]
    everybody, x, y = false_alarms({photo: kept(*place) for photo, place in zip(photos, places, strict=True)})
    assert (x.pairs, x.on_one_day, x.persons) == (exact_rate(1, 3), exact_rate(0, 3), exact_rate(1, 1))
    assert (y.pairs, y.on_one_day) == (exact_rate(1, 3), exact_rate(1, 3))
    assert (everybody.pairs, everybody.persons) == (exact_rate(2, 6), exact_rate(2, 2))
    assert [each.least_bits for each in (everybody, x, y)] == [3, 20, 3]
    assert [each.least_distance for each in (everybody, x, y)] == pytest.approx([0.1, 0.1, 0.5])


@pytest.mark.parametrize("order", [1, -1])
def test_a_pair_counts_when_either_is_called_a_copy_of_the_other(order: int) -> None:
    photos = [Photo("a", str(n), "x") for n in range(2)]
    templates = [kept(0, 0), kept(5, 40, mirror=0)][::order]
    assert false_alarms(dict(zip(photos, templates, strict=True)))[0].pairs == exact_rate(1, 1)


def test_a_photograph_without_a_face_is_in_no_pair() -> None:
    photos = [Photo("a", str(n), "x") for n in range(2)]
    found = false_alarms(dict(zip(photos, (kept(0, 0), None), strict=True)))[0]
    assert (found.pairs, found.persons) == (exact_rate(0, 0), exact_rate(0, 0))
    assert (found.least_distance, found.least_bits) == (None, None)


@pytest.mark.usefixtures("two_kinds")
def test_copies_are_caught(labelled: LabelledSet, engine: PhotoEngine) -> None:
    describe, told = describer(engine), list[tuple[int, int]]()
    described = describe_all(labelled, describe, silent)
    rows = catches(labelled, described, describe, 2, lambda done, of: told.append((done, of)))
    again, mirrored = rows
    assert (again.caught, again.no_face) == (mirrored.caught, mirrored.no_face) == (exact_rate(2, 2), 0)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_copy_without_a_face_or_far_away_is_not_caught(labelled: LabelledSet, two_kinds: list[str]) -> None:
    described = dict.fromkeys(labelled.photos[:3], kept(0, 0)) | {labelled.photos[3]: None}
    nothing = catches(labelled, described, lambda photo: None, 1, silent)
    assert nothing == [Catches(kind, exact_rate(0, 3), exact_rate(0, 3), 3) for kind in two_kinds]
    far = catches(labelled, described, lambda photo: kept(1, 20), 1, silent)
    assert far == [Catches(kind, exact_rate(0, 3), exact_rate(0, 3), 0) for kind in two_kinds]


def test_a_copy_is_caught_on_its_day_by_its_hash_alone(labelled: LabelledSet, two_kinds: list[str]) -> None:
    described = dict.fromkeys(labelled.photos[:3], kept(0, 0))
    by_hash = catches(labelled, described, lambda photo: kept(1, 4), 1, silent)
    assert by_hash == [Catches(kind, exact_rate(3, 3), exact_rate(3, 3), 0) for kind in two_kinds]
    by_distance = catches(labelled, described, lambda photo: kept(0.1, 20), 1, silent)
    assert by_distance == [Catches(kind, exact_rate(3, 3), exact_rate(0, 3), 0) for kind in two_kinds]


@pytest.mark.parametrize("kind", ALTERED)
def test_every_copy_is_another_file_of_a_similar_picture(kind: str) -> None:
    photo = portraits.astronaut()
    copy = ALTERED[kind](photo)
    assert copy != photo
    sides = [Image.open(BytesIO(data)).convert("L").resize((24, 24)) for data in (photo, copy)]
    if "mirrored" in kind:
        sides[1] = sides[1].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert np.corrcoef([np.asarray(side).ravel() for side in sides])[0, 1] > 0.6


# --- look_alike ---


def looked(group: Group, threshold: float, margin: float, members: int = 20) -> LookAlikes:
    found = look_alikes(group, members, threshold, margin, rosters=10)
    assert found is not None
    return found


def counts(found: LookAlikes) -> list[tuple[int, int]]:
    rates = (found.false_alarms, found.impostors_caught, found.impostors_nearer_to_themselves)
    return [(rate.errors, rate.pairs) for rate in rates]


@pytest.mark.parametrize(
    ("threshold", "margin", "wanted"),
    [
        (0.75, 0.24, [(0, 20), (20, 20), (20, 20)]),  # two persons .75 alike, 1.0 to themselves
        (0.75, 0.25, [(20, 20), (20, 20), (20, 20)]),  # at the margin is flagged
        (0.76, 0.24, [(0, 20), (0, 0), (0, 0)]),  # nobody passes for the other
        (1.01, 0.24, [(0, 0), (0, 0), (0, 0)]),
    ],
)
def test_only_above_the_threshold_and_within_the_margin(
    threshold: float, margin: float, wanted: list[tuple[int, int]]
) -> None:
    group = group_of({"a": [0, 0], "b": [0.25, 0.25]})
    assert counts(looked(group, threshold, margin)) == wanted


def test_an_impostor_who_is_not_like_himself_is_missed() -> None:
    """Where a is seen at 0, b's place, with a reference at 1: missed. Where it is the other way round, b is flagged,
    both as himself and as a."""
    found = look_alikes(group_of({"a": [0, 1], "b": [0, 0]}), 2, 0.5, 0.05, rosters=40)
    assert found
    (alarms, genuine), (caught, impostors), (nearer, _) = counts(found)
    assert genuine == impostors == 40
    assert alarms == caught == nearer
    assert 0 < caught < 40


def test_the_best_of_all_others_counts() -> None:
    """Against a count one by one; everybody's photographs are equal, so that it does not matter which are drawn."""
    persons = {f"p{n}": [place, place] for n, place in enumerate([0.0, 0.05, 0.3, 0.33, 0.9])}
    group, threshold, margin = group_of(persons), 0.6, 0.2
    score = group.scores[::2, ::2]
    genuine: list[bool] = []
    impostors: list[bool] = []
    for seen, claimed in product(range(5), repeat=2):
        if score[seen, claimed] >= threshold:
            rival = max(score[seen, other] for other in range(5) if other != claimed)
            (genuine if seen == claimed else impostors).append(rival >= score[seen, claimed] - margin)
    assert 0 < sum(genuine) < len(genuine)
    assert impostors
    found = looked(group, threshold, margin)
    assert counts(found)[:2] == [(10 * sum(kind), 10 * len(kind)) for kind in (genuine, impostors)]
    # Each roster is of everybody, and scores are the same both ways.
    assert (found.alarmed_persons, 2 * found.impostor_pairs) == (sum(genuine), len(impostors))


def test_a_roster_has_as_many_as_there_are_with_two_faces() -> None:
    group = group_of({"a": [0, 0], "b": [5, 5], "one": [9], "hidden": [7, None]})
    assert looked(group, 0.5, 0.05).members == 2
    assert looked(group_of({f"p{n}": [n, n] for n in range(9)}), 0.5, 0.05, members=4).members == 4
    assert look_alikes(group_of({"a": [0, 0], "one": [1]}), 20, 0.5, 0.05) is None


def test_the_margin_is_the_service_s() -> None:
    assert LOOK_ALIKE_MARGINS[SFACE_MODEL] == MARGIN


# --- Several references ---


def by_number(rows: Sequence[Several]) -> dict[tuple[int, str], Several]:
    return {(row.references, row.by): row for row in rows}


def test_each_reference_is_one_more_chance_for_both_by_the_best_and_not_by_the_mean() -> None:
    """Of a's four photographs one is at .5, where b is: nobody else is there, so a match needs it as a reference."""
    rows = by_number(several_references(group_of({"a": [0, 0, 0, 0.5], "b": [0.5]}), 0.9))
    best = [rows[number, "best"] for number in (1, 2, 3)]
    false = [row.fmr.errors for row in best]
    assert all((row.tar.pairs, row.fmr.pairs, row.persons) == (DRAWS, DRAWS, 1) for row in rows.values())
    assert 0 < false[0] < false[1] < false[2] < DRAWS
    # The probe at 0 has an equal reference in all draws that have the .5, and in no other is it a probe.
    assert best[2].tar.errors == false[2]
    assert rows[1, "mean"].fmr == best[0].fmr
    assert [(rows[n, "mean"].tar.errors, rows[n, "mean"].fmr.errors) for n in (2, 3)] == [
        (rows[2, "best"].tar.errors - false[1], 0),
        (0, 0),
    ]


def test_the_threshold_of_a_rate_is_fixed_on_all_draws() -> None:
    """One in a thousand of 1,260 comparisons may match, and the nearest are 60 equal ones."""
    far = {f"p{n}": [n] for n in range(9, 49)}
    (row, *_) = several_references(group_of({"a": [0, 0, 0, 0], "b": [0.25, 0.25], **far}), 0.75)
    assert (row.tar.errors, row.tar.pairs) == (DRAWS, DRAWS)
    assert (row.fmr.errors, row.fmr.pairs) == (2 * DRAWS, 42 * DRAWS)
    assert row.threshold_at_1e3 == np.nextafter(0.75, 1)
    assert (row.tar_at_1e3.errors, row.tar_at_1e3.pairs) == (DRAWS, DRAWS)


def test_a_probe_without_a_face_is_a_miss_and_never_a_reference() -> None:
    rows = several_references(group_of({"a": [0, 0, 0, None], "b": [9]}), 0.5)
    assert {(row.tar.errors, row.tar.pairs) for row in rows} == {(0, DRAWS)}


@pytest.mark.parametrize(
    "persons", [{"a": [0, 0, 0], "b": [1]}, {"a": [0, 0, 0, 0]}, {"a": [0, 0, None, None], "b": [1]}]
)
def test_too_few_photographs_for_references(persons: Mapping[str, Sequence[float | None]]) -> None:
    assert several_references(group_of(persons), 0.5) == []


# --- Fusion ---


def spread(scatter: float, seed: int = 1) -> Group:
    """40 persons at whole numbers, two photographs each, scattered around."""
    generator = np.random.default_rng(seed)
    return group_of({f"p{n}": list(n + generator.normal(0, scatter, 2)) for n in range(40)})


def test_the_same_score_gains_nothing() -> None:
    found = gain(spread(0.3), spread(0.3))
    assert found
    assert (found.difference, found.low, found.high) == (0, 0, 0)


def test_a_clear_gain_and_its_loss_are_shown() -> None:
    rough, fine = spread(0.3), spread(0.01)
    up, down = gain(rough, fine), gain(fine, rough)
    assert up
    assert down
    rates = GroupRates(rough)
    at = rates.fnmr(threshold_at(rough.nonmated.score, 1000)).complement()
    assert (up.tar, up.tar_fused) == (at.value, 1.0)
    assert up.difference == 1 - at.value
    assert 0 < up.low < up.difference < up.high
    assert (down.low, down.high) == pytest.approx((-up.high, -up.low))


def test_a_gain_that_one_person_makes_holds_zero() -> None:
    """In a third of the rounds this person is not drawn."""
    others = {f"p{n}": [n, n] for n in range(20)}
    found = gain(group_of({**others, "q": [50, 53]}), group_of({**others, "q": [50, 50]}))
    assert found
    assert found.difference == pytest.approx(1 / 21)
    assert (found.low, found.high > found.difference) == (0, True)


def test_noise_is_no_gain() -> None:
    found = gain(spread(0.3, seed=1), spread(0.3, seed=2))
    assert found
    assert found.low < 0 < found.high


def test_without_pairs_there_is_no_gain() -> None:
    for persons in ({"a": [0.0, 0.0]}, {"a": [0.0], "b": [0.0]}):
        assert gain(group_of(persons), group_of(persons)) is None


# --- The report ---


def test_each_photograph_is_analysed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "ALTERED", {})
    labelled = on_disk(tmp_path / "set", {f"p{n}": [b"%d" % (n * 9 + i) for i in range(4)] for n in range(3)})
    seen: list[bytes] = []

    def describe(photo: bytes) -> Templates:
        seen.append(photo)
        vector = np.random.default_rng(int(photo) // 9).normal(0, 1, 128)
        return {**kept(float(photo), 0), SFACE_MODEL: vector.tolist()}

    tables = evaluate(labelled, describe, 0.5, 1, silent)
    assert sorted(seen, key=int) == [b"%d" % (n * 9 + i) for n in range(3) for i in range(4)]
    assert [(row.group, row.members) for row in tables["look_alike"]] == [("g", 3)] * 2 + [("all", 3)] * 2
    assert len(tables["several references"]) == 6
    assert {(row.tar.errors, row.tar.pairs) for row in tables["several references"]} == {(90, 90)}
    (fusion,) = tables["fusion"]
    assert (fusion.tar, fusion.difference) == (1, 0)


def test_rows_as_a_table_and_as_records() -> None:
    rows = [Catches("c", Rate(1, 2, 0.25, 0.75), Rate(0, 0, 0.0, 1.0), 3)]
    cells = [cell.strip() for cell in as_table(rows).splitlines()[2].strip("|").split("|")]
    assert cells == ["c", "0.500 [0.250, 0.750], 1 of 2", "no pair", "3"]
    assert as_records(rows) == [
        {
            "copy": "c",
            "caught": {"k": 1, "n": 2, "value": 0.5, "low": 0.25, "high": 0.75},
            "on_one_day": {"k": 0, "n": 0, "value": None, "low": 0.0, "high": 1.0},
            "no_face": 3,
        }
    ]


@pytest.mark.usefixtures("two_kinds")
def test_the_command(
    labelled: LabelledSet, networks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "report.json"
    assert main([str(labelled.folder), "--every", "4", "--cache", str(networks), "--json", str(file)]) == 0
    printed = capsys.readouterr().out.splitlines()
    report = json.loads(file.read_text("utf-8"))
    assert [line[3:] for line in printed if line.startswith("## ")] == [*report["tables"]]
    assert report["operating_point"]["name"] == "lfw_ea_1e3"
    caught = report["tables"]["duplicate_photo: copies caught"]
    assert [(row["caught"]["k"], row["caught"]["n"]) for row in caught] == [(1, 1)] * 2
    look_alike = report["tables"]["look_alike"][0]
    assert (look_alike["members"], look_alike["false_alarms"]["k"]) == (2, 0)
    assert look_alike["false_alarms"]["n"] == 2 * look_alike["rosters"]


def test_the_command_says_what_is_missing(
    tmp_path: Path, networks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), "--cache", str(networks)]) == 1
    assert "labels.tsv can't be read" in capsys.readouterr().err
