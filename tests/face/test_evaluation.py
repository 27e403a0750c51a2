"""The evaluation: hand-computed rates, intervals by person, thresholds from other persons, and what it writes."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from face import DLIB_RESNET_MODEL, Templates, compare
from face.comparison import SFACE_MODEL
from face.evaluate import main
from face.evaluation import engines
from face.evaluation.comparisons import Group, compared, describe_all
from face.evaluation.det import DetPoint, det_points, write_csv
from face.evaluation.engines import (
    ENGINES,
    Describe,
    ModelPlaces,
    NamedEngine,
    cosine,
    fused,
    named_engine,
    nearness,
)
from face.evaluation.evaluation import Plan, evaluate
from face.evaluation.fault import EvaluationFault
from face.evaluation.held_out import Spread, at_fixed, by_splits, fixed_thresholds
from face.evaluation.labels import LabelledSet, Photo, read_labels
from face.evaluation.rates import GroupRates, Rate, is_estimable, threshold_at, wilson
from face.operating_points import operating_points
from tests import portraits

ROOT = Path(__file__).resolve().parents[2]
MODEL = "line"
HEADER = "person\tfile\tgroup\n"


@pytest.fixture(autouse=True)
def pillow_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing ``face_recognition`` lets Pillow read truncated files, for every test that follows."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", ImageFile.LOAD_TRUNCATED_IMAGES)


# --- Synthetic persons: photographs are points on a line, alike by 1 minus their distance ---


def point(place: float | None) -> Templates | None:
    return None if place is None else {MODEL: (place,)}


def group_of(persons: Mapping[str, Sequence[float | None]], name: str = "g") -> Group:
    photos = [
        Photo(person, f"{person}/{n}.jpg", name)
        for person, places in persons.items()
        for n in range(len(places))
    ]
    places = [place for each in persons.values() for place in each]
    return compared(name, photos, [point(place) for place in places], nearness(MODEL))


def crowd(persons: int, photos: int = 2, seed: int = 1, width: float = 1.0) -> Group:
    """Persons spread over a line ``width`` long, their photographs 0.01 around."""
    generator = np.random.default_rng(seed)
    places = generator.uniform(0, width, persons)
    return group_of({f"p{n}": places[n] + generator.normal(0, 0.01, photos) for n in range(persons)})


def on_disk(folder: Path, persons: Mapping[str, Sequence[float | None]], group: str = "g") -> Path:
    """A labelled folder whose files hold places on the line; more groups by calling it again."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = folder / "labels.tsv"
    lines = [] if labels.exists() else [HEADER]
    for person, places in persons.items():
        for number, place in enumerate(places):
            file = f"{person}_{number}.txt"
            (folder / file).write_text(str(place))
            lines.append(f"{person}\t{file}\t{group}\n")
    with labels.open("a") as table:
        table.writelines(lines)
    return folder


def read_place(photo: bytes) -> Templates | None:
    return point(None if photo == b"None" else float(photo))


NOWHERE = ModelPlaces(Path("nowhere"))
LINE = NamedEngine(lambda places: read_place, nearness(MODEL), {"half": 0.5})


@pytest.fixture
def line_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "ENGINES", {**ENGINES, "line": LINE})


def silent(done: int, of: int) -> None:
    """No progress."""


def planned(
    folder: Path, other: Path | None = None, threshold_group: str | None = None, splits: int = 100
) -> Plan:
    return Plan(read_labels(folder), read_labels(other) if other else None, threshold_group, splits)


# --- Reading the set ---


def test_a_set_is_read_in_order_and_a_person_with_one_photograph_is_fine(tmp_path: Path) -> None:
    on_disk(on_disk(tmp_path, {"a": [0, 1], "b": [2]}, "x"), {"c": [3]}, "y")
    labelled = read_labels(tmp_path)
    assert [photo.file for photo in labelled.photos] == ["a_0.txt", "a_1.txt", "b_0.txt", "c_0.txt"]
    assert labelled.groups == ("x", "y")
    assert labelled.persons == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (None, "labels.tsv can't be read"),
        (b"\xff\xfe", "labels.tsv can't be read"),
        (b"", "first line must name the column person"),
        (b"person\tfile\n", "first line must name the column group"),
        (HEADER.encode(), "names no photograph"),
        (b"person\tfile\tgroup\na\t1.jpg\n", "line 2: person, file and group are all needed"),
        (b"person\tfile\tgroup\na\t1.jpg\tg\na\t\tg\n", "line 3: person, file and group are all needed"),
        (b"person\tfile\tgroup\na\t3.jpg\tg\n", "line 2: there is no file 3.jpg"),
        (b"person\tfile\tgroup\na\t.\tg\n", r"line 2: there is no file \."),
        (b"person\tfile\tgroup\na\t1.jpg\tg\nb\tx/../1.jpg\tg\n", "line 3: x/../1.jpg is named twice"),
        (b"person\tfile\tgroup\na\t1.jpg\tg\na\t2.jpg\th\n", "line 3: a is in g already"),
        (b"person\tfile\tgroup\na\t1.jpg\t../g\n", r"line 2: a group's name .*: \.\./g"),
    ],
    ids=[
        *("no table", "not UTF-8", "empty", "column missing", "no line", "cell missing", "cell empty"),
        *("no file", "folder", "file twice", "person in two groups", "group with a path"),
    ],
)
def test_a_fault_of_the_labels_is_named_with_its_line(
    tmp_path: Path, table: bytes | None, words: str
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "1.jpg").touch()
    (tmp_path / "2.jpg").touch()
    if table is not None:
        (tmp_path / "labels.tsv").write_bytes(table)
    with pytest.raises(EvaluationFault, match=words):
        read_labels(tmp_path)


# --- Counting errors ---

# Mated: a .9, b .8 (tie with the threshold). Non-mated: a-b .5 .3 .6 .4, a-c .0 .1, b-c .5 .7.
SMALL = {"a": (0.0, 0.1), "b": (0.5, 0.7), "c": (1.0,)}


@pytest.mark.parametrize(
    ("threshold", "false_matches", "false_nonmatches"),
    [(0.05, 7, 0), (0.55, 2, 0), (0.65, 1, 0), (0.75, 0, 0), (0.85, 0, 1), (0.95, 0, 2)],
)
def test_errors_are_counted(threshold: float, false_matches: int, false_nonmatches: int) -> None:
    rates = GroupRates(group_of(SMALL))
    fmr, fnmr = rates.fmr(threshold), rates.fnmr(threshold)
    assert (fmr.errors, fmr.pairs, fmr.value) == (false_matches, 8, false_matches / 8)
    assert (fnmr.errors, fnmr.pairs, fnmr.value) == (false_nonmatches, 2, false_nonmatches / 2)


def test_a_score_at_the_threshold_matches() -> None:
    rates = GroupRates(group_of({"a": (0.0, 0.25), "b": (0.5,)}))  # .75 mated, .5 and .75 non-mated
    assert (rates.fmr(0.75).errors, rates.fnmr(0.75).errors) == (1, 0)
    above = float(np.nextafter(0.75, 1))
    assert (rates.fmr(above).errors, rates.fnmr(above).errors) == (0, 1)


def test_a_face_not_found_matches_nobody_and_still_counts() -> None:
    group = group_of({"a": (0.0, 0.0, None), "b": (0.0,)})
    rates = GroupRates(group)
    assert group.not_found == 1
    assert (rates.fnmr(-1e9).errors, rates.fnmr(-1e9).pairs) == (2, 3)
    assert (rates.fmr(-1e9).errors, rates.fmr(-1e9).pairs) == (2, 3)


def test_nobody_found_is_all_nonmatches() -> None:
    rates = GroupRates(group_of({"a": (None, None), "b": (None,)}))
    assert rates.fnmr(0).value == 1
    assert rates.fmr(0).value == 0


def test_photographs_of_a_person_need_not_stand_together() -> None:
    photos = [Photo(person, f"{n}.jpg", "g") for n, person in enumerate("abab")]
    group = compared("g", photos, [point(place) for place in (0.0, 0.5, 0.1, 0.8)], nearness(MODEL))
    assert sorted(group.mated.score) == pytest.approx([0.7, 0.9])
    assert (group.nonmated.first <= group.nonmated.second).all()


@pytest.mark.parametrize(
    ("scores", "one_in", "matches"),
    [
        ([0.1, 0.2, 0.3, 0.4], 4, 1),
        ([0.1, 0.2, 0.3, 0.4], 2, 2),
        ([0.1, 0.2, 0.3, 0.4], 100, 0),  # fewer pairs than one false match takes: none may match
        ([0.1, 0.4, 0.4, 0.4], 2, 0),  # a tie of three doesn't fit where two may match
        ([0.1, 0.1, 0.4, 0.4], 2, 2),
        ([0.3, 0.3, 0.3, 0.3], 2, 0),
        ([-np.inf, -np.inf, 0.2, -np.inf], 2, 1),  # not found: matches at no threshold
    ],
)
def test_a_threshold_lets_no_more_than_its_share_match(
    scores: list[float], one_in: int, matches: int
) -> None:
    threshold = threshold_at(np.array(scores), one_in)
    assert (np.array(scores) >= threshold).sum() == matches
    assert np.isfinite(threshold)


def test_a_threshold_needs_a_score() -> None:
    with pytest.raises(ValueError, match="no score"):
        threshold_at(np.array([]), 100)


def test_five_false_matches_must_be_expected() -> None:
    assert [is_estimable(pairs, 100) for pairs in (499, 500)] == [False, True]
    assert [is_estimable(pairs, 1000) for pairs in (4999, 5000, 5191)] == [False, True, True]


# --- Intervals by person ---


def test_wilson_of_known_counts() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263 and 0 of 20, method 3
    assert wilson(81, 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 20, 20) == pytest.approx((0, 0.1611), abs=1e-4)


def test_no_error_among_few_persons_is_not_certainty() -> None:
    rates = GroupRates(group_of({f"p{n}": (n, n, n, n) for n in range(10)}))
    assert rates.fnmr(0.5) == Rate(0, 60, *wilson(0, 60, 10))  # 10 persons, not 60 pairs
    assert rates.fmr(0.5) == Rate(0, 720, *wilson(0, 720, 45))
    assert rates.fnmr(1.5) == Rate(60, 60, *wilson(60, 60, 10))


def test_without_a_pair_anything_is_possible() -> None:
    rates = GroupRates(group_of({"a": (0.0,)}))
    for rate in (rates.fmr(0), rates.fnmr(0)):
        assert (rate.pairs, rate.low, rate.high) == (0, 0, 1)


def test_errors_of_one_person_make_the_interval_wider_than_scattered_ones() -> None:
    one = {f"p{n}": (n, n, n, n) for n in range(12)} | {"p0": (0.0, 0.6, 1.2, 1.8)}
    scattered = {f"p{n}": (n, n, n, n + 0.6 * (n < 2)) for n in range(12)}
    clustered, spread = GroupRates(group_of(one)).fnmr(0.5), GroupRates(group_of(scattered)).fnmr(0.5)
    assert clustered.errors == spread.errors == 6
    assert clustered.high - clustered.low > 1.2 * (spread.high - spread.low)


def people_like_faces(generator: np.random.Generator, persons: int) -> Group:
    """Unit vectors around persons, some blurred, all a little alike: errors come in clusters, as with faces."""
    size = 24
    centres = generator.normal(size=(persons, size))
    centres[:, 0] += 1.7
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    number = np.repeat(np.arange(persons), generator.choice([2, 2, 3, 4, 5, 5], persons))
    blur = 0.55 * np.exp(0.4 * generator.normal(size=persons))[number, None] / np.sqrt(size)
    vectors = centres[number] + blur * generator.normal(size=(len(number), size))
    photos = [Photo(str(person), str(n), "g") for n, person in enumerate(number)]
    return compared("g", photos, [{MODEL: tuple(vector)} for vector in vectors], cosine(MODEL))


def test_the_interval_holds_the_truth_in_most_sets_and_one_by_pairs_does_not() -> None:
    generator = np.random.default_rng(7)
    many = people_like_faces(generator, 600)
    strict, lax = (float(np.quantile(many.nonmated.score, share)) for share in (0.99, 0.9))
    truth = {
        "fmr": GroupRates(many).group.nonmated.score >= strict,
        "fnmr": GroupRates(many).group.mated.score < lax,
    }
    held: dict[str, list[tuple[bool, bool]]] = {"fmr": [], "fnmr": []}
    for _ in range(150):
        rates = GroupRates(people_like_faces(generator, 28))
        for name, rate in (("fmr", rates.fmr(strict)), ("fnmr", rates.fnmr(lax))):
            true = truth[name].mean()
            low, high = wilson(rate.errors, rate.pairs, rate.pairs)
            held[name].append((rate.low <= true <= rate.high, low <= true <= high))
    for name in held:
        by_person, by_pair = np.mean(held[name], axis=0)
        assert by_person > 0.88, (name, by_person)
        assert by_pair < 0.8, (name, by_pair)


# --- Thresholds from other persons ---


def test_splits_of_a_separable_group_match_everybody_and_nobody_else() -> None:
    cells = by_splits(group_of({f"p{n}": (n, n + 0.01) for n in range(20)}), 100)
    cell = cells["1e-2"]
    assert cell
    assert (cell.tar, cell.fmr.value) == (Spread(1, 1, 1), 0)
    assert cells["1e-3"] is None  # 760 non-mated pairs
    assert cells["1e-4"] is None


def test_the_spread_is_from_5_to_95_percent_of_the_splits() -> None:
    """Five of twenty persons never match: of ten reported, four or five of them in 15 % of splits, five in 2 %."""
    persons: dict[str, list[float | None]] = {f"p{n}": [n, n + 0.01] for n in range(15)}
    persons |= {f"q{n}": [20.0 + n, None] for n in range(5)}
    cell = by_splits(group_of(persons), 200)["1e-2"]
    assert cell
    assert (cell.tar.low, cell.tar.high) == (0.6, 0.9)
    assert cell.tar.value in (0.7, 0.75, 0.8)


def test_a_split_reports_persons_whom_its_threshold_was_not_fixed_on() -> None:
    """On the very persons, the rate can't exceed what is wanted; on others it does in a part of the splits."""
    group = crowd(30, width=5.0)
    own = fixed_thresholds([group])["1e-2"]
    assert own is not None
    assert GroupRates(group).fmr(own).value <= 0.01
    cell = by_splits(group, 200)["1e-2"]
    assert cell
    assert cell.fmr.low < 0.01 < cell.fmr.high


def test_splits_are_the_same_in_every_run() -> None:
    assert by_splits(crowd(25), 100) == by_splits(crowd(25), 100)


@pytest.mark.parametrize(
    "persons",
    [
        {"a": [0.0] * 25, "b": [1.0] * 25},  # 625 non-mated pairs, but no halves with any
        {f"p{n}": [n] for n in range(40)},  # 780, and no mated pair
    ],
    ids=["two persons", "one photograph each"],
)
def test_what_cannot_be_split_is_not_estimable(persons: Mapping[str, Sequence[float]]) -> None:
    assert set(by_splits(group_of(persons), 100).values()) == {None}


def test_a_person_with_many_photographs_may_leave_a_half_without_mated_pairs() -> None:
    persons = {"a": [0.0, 0.0, 0.0]} | {f"p{n}": [float(n)] for n in range(1, 40)}
    cell = by_splits(group_of(persons), 100)["1e-2"]
    assert cell
    assert cell.tar.value == 1


def test_fixed_thresholds_give_counts_of_the_group_reported() -> None:
    source, reported = crowd(40, seed=1), GroupRates(crowd(40, seed=2))
    threshold = fixed_thresholds([source])["1e-2"]
    assert threshold == threshold_at(source.nonmated.score, 100)
    cell = at_fixed(reported, fixed_thresholds([source]))["1e-2"]
    assert cell
    assert cell.threshold == threshold
    matched = int((reported.group.mated.score >= threshold).sum())
    assert isinstance(cell.tar, Rate)
    assert (cell.tar.errors, cell.tar.pairs) == (matched, 40)
    assert cell.tar.low <= cell.tar.value <= cell.tar.high
    assert cell.fmr == reported.fmr(threshold)


def test_too_few_pairs_on_either_side_are_not_estimable() -> None:
    many, few = crowd(20), crowd(10)  # 760 and 180 non-mated pairs
    assert at_fixed(GroupRates(many), fixed_thresholds([many]))["1e-2"] is not None
    assert at_fixed(GroupRates(few), fixed_thresholds([many]))["1e-2"] is None
    assert at_fixed(GroupRates(many), fixed_thresholds([few]))["1e-2"] is None
    assert at_fixed(GroupRates(many), fixed_thresholds([many, few]))["1e-2"] is None


def test_of_several_groups_the_strictest_threshold_holds() -> None:
    close, far = crowd(20, width=0.5), crowd(20, width=50)
    both, strict = fixed_thresholds([far, close])["1e-2"], fixed_thresholds([close])["1e-2"]
    assert both == strict
    assert both != fixed_thresholds([far])["1e-2"]


def test_whom_thresholds_are_fixed_on(tmp_path: Path) -> None:
    here = on_disk(on_disk(tmp_path / "here", {"a": [0], "b": [1]}, "x"), {"c": [2]}, "y")
    there = on_disk(on_disk(tmp_path / "there", {"b": [0], "d": [1]}, "x"), {"e": [2]}, "z")
    assert [planned(here).sources_of(group) for group in "xy"] == [(), ()]
    assert [planned(here, None, "x").sources_of(group) for group in "xy"] == [(), ("x",)]
    assert [planned(here, there).sources_of(group) for group in "xy"] == [("x",), ("x", "z")]
    assert [planned(here, there, "z").sources_of(group) for group in "xy"] == [("z",), ("z",)]
    outsiders = planned(here, there).outsiders
    assert outsiders
    assert outsiders.persons == {"d", "e"}


@pytest.mark.parametrize(
    ("there", "group", "words"),
    [
        ({"a": [0]}, None, "all persons in .*there are also in .*here"),
        ({"d": [0]}, "nobody", "no other person is in nobody of .*there, only: g"),
        (None, "nobody", "no other person is in nobody of .*here, only: g"),
    ],
)
def test_nobody_to_fix_thresholds_on(
    tmp_path: Path, there: dict[str, list[float]] | None, group: str | None, words: str
) -> None:
    here = on_disk(tmp_path / "here", {"a": [0], "b": [1]})
    with pytest.raises(EvaluationFault, match=words):
        planned(here, on_disk(tmp_path / "there", there) if there else None, group)


def test_each_photograph_is_described_once_and_no_more_than_needed(tmp_path: Path) -> None:
    here = on_disk(tmp_path / "here", {"a": [0, 1], "b": [2]}, "x")
    there = on_disk(on_disk(tmp_path / "there", {"b": [9], "d": [3, 4]}, "x"), {"e": [5]}, "unneeded")
    described: list[bytes] = []

    def build(places: ModelPlaces) -> Describe:
        return lambda photo: described.append(photo) or read_place(photo)  # type: ignore[func-returns-value]

    evaluate("line", NamedEngine(build, nearness(MODEL)), NOWHERE, planned(here, there), silent)
    assert described == [b"0", b"1", b"2", b"3", b"4"]


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    labelled = read_labels(on_disk(tmp_path, {"a": [0, 1], "b": [2]}))
    describe_all(labelled, read_place, lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]


# --- Engines ---


def some_templates(count: int = 5) -> list[Templates]:
    generator = np.random.default_rng(3)
    models = (SFACE_MODEL, DLIB_RESNET_MODEL)
    return [{model: tuple(generator.normal(0.02, 0.1, 128)) for model in models} for _ in range(count)]


@pytest.mark.parametrize(
    ("name", "model_id"),
    [("sface", SFACE_MODEL), ("dlib", DLIB_RESNET_MODEL), ("face_recognition", DLIB_RESNET_MODEL)],
)
def test_scores_at_once_are_those_of_the_comparison(name: str, model_id: str) -> None:
    templates = some_templates()
    scores = ENGINES[name].score_all(templates)
    for one, other in combinations(range(len(templates)), 2):
        wanted = compare(templates[one], templates[other], model_id).value
        assert scores[one, other] == pytest.approx(wanted, abs=1e-6)


def test_the_fusion_takes_a_quarter_of_the_distance_off_the_cosine() -> None:
    one, other = some_templates(2)
    distance = 1 - compare(one, other, DLIB_RESNET_MODEL).value
    wanted = compare(one, other, SFACE_MODEL).value - 0.25 * distance
    assert fused([one, other])[0, 1] == pytest.approx(wanted, abs=1e-6)


def test_cosines_at_once() -> None:
    scores = cosine("m")([{"m": (3.0, 0.0)}, {"m": (1.0, 1.0)}, {"m": (0.0, -2.0)}])
    assert scores == pytest.approx(
        np.array([[1, np.sqrt(0.5), 0], [np.sqrt(0.5), 1, -np.sqrt(0.5)], [0, -np.sqrt(0.5), 1]])
    )


def test_the_stock_library_is_measured_at_its_tolerance() -> None:
    assert ENGINES["face_recognition"].operating_points == {"stock_0.6": 0.4}


@pytest.mark.parametrize(("name", "model_id"), [("sface", SFACE_MODEL), ("dlib", DLIB_RESNET_MODEL)])
def test_our_engines_are_measured_at_their_operating_points(name: str, model_id: str) -> None:
    points = operating_points(model_id)
    assert "lfw_ea_1e3" in points
    assert ENGINES[name].operating_points == {point.name: point.threshold for point in points.values()}


def test_an_engine_that_is_not_there_is_named() -> None:
    with pytest.raises(EvaluationFault, match=r"no engine oracle, only: .*dlib.*face_recognition"):
        named_engine("oracle")


def test_the_stock_library_without_pkg_resources_is_a_fault_and_no_exit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pkg_resources", None)
    with pytest.raises(EvaluationFault, match="setuptools below 81"):
        ENGINES["face_recognition"].build(NOWHERE)


# --- DET curves ---


def test_a_det_curve_falls_and_keeps_the_first_errors() -> None:
    points = det_points(GroupRates(crowd(60, photos=3)))
    fmr, fnmr = [p.fmr.errors for p in points], [p.fnmr.errors for p in points]
    assert fmr == sorted(fmr)
    assert fnmr == sorted(fnmr, reverse=True)
    assert {1, 2, 3, 4, 5} <= set(fmr)
    assert fmr[-1] == points[0].fmr.pairs
    assert {0, 1, 2, 3, 4, 5} <= set(fnmr)
    assert len(points) <= 180


def test_a_det_table_reads_back(tmp_path: Path) -> None:
    points = [DetPoint(0.5, Rate(1, 8, 0.0, 0.5), Rate(0, 0, 0.0, 1.0))]
    write_csv(points, tmp_path / "det.csv")
    with (tmp_path / "det.csv").open() as file:
        (row,) = csv.DictReader(file)
    wanted = {"threshold": "0.5", "fmr": "0.125", "fmr_low": "0.0", "fmr_high": "0.5", "false_matches": "1"}
    wanted |= {"nonmated": "8", "fnmr": "", "fnmr_low": "0.0", "fnmr_high": "1.0", "false_nonmatches": "0"}
    assert row == {**wanted, "mated": "0"}


# --- The command ---


@pytest.fixture
def line_folder(tmp_path: Path) -> Path:
    """Two groups: 20 persons that are told apart, the last one not found once; two that nobody can judge."""
    persons: dict[str, list[float | None]] = {f"p{n}": [n, n + 0.01] for n in range(19)}
    on_disk(tmp_path / "set", persons | {"p19": [19, None]}, "many")
    return on_disk(tmp_path / "set", {"q": [0, 0.4], "r": [0.75]}, "few")


Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, line_engine: None, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    return lambda folder, *options: main([str(folder), "--engine", "line", *map(str, options)])


def test_the_json_key_by_key(run: Run, line_folder: Path) -> None:
    assert run(line_folder, "--json", "new/out.json") == 0
    written: dict[str, Any] = json.loads(Path("new/out.json").read_text())
    assert list(written) == ["engine", "groups"]
    assert written["engine"] == "line"
    assert list(written["groups"]) == ["many", "few"]
    assert written["groups"]["few"] == {
        "persons": 2,
        "photos": 3,
        "not_found": 0,
        "mated": 1,
        "nonmated": 2,
        "tar": {"1e-2": None, "1e-3": None, "1e-4": None},
        "at_threshold": {"half": {"fmr": 0.5, "fnmr": 0.0}},
    }
    many = written["groups"]["many"]
    tar = many.pop("tar")
    assert many == {
        "persons": 20,
        "photos": 40,
        "not_found": 1,
        "mated": 20,
        "nonmated": 760,
        "at_threshold": {"half": {"fmr": 0.0, "fnmr": 0.05}},
    }
    assert (list(tar), tar["1e-3"], tar["1e-4"]) == (["1e-2", "1e-3", "1e-4"], None, None)
    value, low, high = tar["1e-2"]
    assert (low, high) == (0.9, 1.0)  # p19 is one of ten in a half, or not in it
    assert value in (0.9, 1.0)


def test_a_rate_without_a_pair_is_null(run: Run, tmp_path: Path) -> None:
    assert run(on_disk(tmp_path / "one", {"a": [0.0]}), "--json", "out.json") == 0
    group = json.loads(Path("out.json").read_text())["groups"]["g"]
    assert group["at_threshold"] == {"half": {"fmr": None, "fnmr": None}}


def test_fixed_thresholds_in_the_json_are_a_value_within_its_interval(run: Run, line_folder: Path) -> None:
    other = on_disk(line_folder.parent / "other", {f"x{n}": [n, n + 0.01] for n in range(20)}, "many")
    assert run(line_folder, "--thresholds-from", other, "--json", "out.json") == 0
    value, low, high = json.loads(Path("out.json").read_text())["groups"]["many"]["tar"]["1e-2"]
    assert value == 0.95
    assert 0.7 < low < value < high < 1


def test_the_same_folder_for_thresholds_means_splits(run: Run, line_folder: Path) -> None:
    assert run(line_folder, "--json", "splits.json") == 0
    assert run(line_folder, "--thresholds-from", f"{line_folder}/.", "--json", "same.json") == 0
    assert Path("same.json").read_text() == Path("splits.json").read_text()


def test_the_scores_pair_by_pair(run: Run, line_folder: Path) -> None:
    assert run(line_folder, "--scores", "scores.tsv") == 0
    lines = [line.split("\t") for line in Path("scores.tsv").read_text().splitlines()]
    assert len(lines) == 20 + 760 + 1 + 2
    assert ["p0_0.txt", "p0_1.txt", "0.99"] in lines
    assert ["q_0.txt", "r_0.txt", "0.25"] in lines
    missing = [(one, other) for one, other, score in lines if score == "not_found"]
    assert len(missing) == 39
    assert all("p19_1.txt" in pair for pair in missing)
    assert not any(one.startswith("p") != other.startswith("p") for one, other, _ in lines)
    assert len({frozenset(line[:2]) for line in lines}) == len(lines)


def test_what_is_printed(run: Run, line_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(line_folder, "--splits", "150") == 0
    printed = capsys.readouterr()
    for words in (
        "## many: 20 persons, 40 photographs (1 without a face found), 20 mated and 760 non-mated pairs",
        "median and 5-95 % of 150 splits",
        "not estimable, n = 760",
        "## few: 2 persons",
        "not estimable, n = 2 ",
        "1 of 20",
        "What these figures are not",
    ):
        assert words in printed.out
    assert "43 of 43 photographs described" in printed.err


def test_the_table_says_which_number_of_pairs_was_too_small(
    run: Run, line_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line_folder, "--threshold-group", "few") == 0
    assert "not estimable, n = 760" not in capsys.readouterr().out


def test_curves_are_drawn_and_tabled_for_every_group(run: Run, line_folder: Path) -> None:
    assert run(line_folder, "--out", "curves") == 0
    names = {f"det_{group}.{kind}" for group in ("many", "few") for kind in ("csv", "png")}
    assert {path.name for path in Path("curves").iterdir()} == names
    assert Path("curves/det_many.png").read_bytes().startswith(b"\x89PNG")
    with Path("curves/det_many.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["nonmated"], row["mated"]) for row in rows} == {("760", "20")}
    assert float(rows[-1]["fnmr"]) == 0.05  # whoever is not found is missed at every threshold


def test_without_matplotlib_the_table_is_written_and_the_lack_is_said(
    run: Run, line_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(line_folder, "--out", "curves") == 0
    assert {path.name for path in Path("curves").iterdir()} == {"det_many.csv", "det_few.csv"}
    assert "matplotlib is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("places", [[0.0], [None, None]], ids=["one photograph", "nothing found"])
def test_a_set_without_a_curve_is_no_fault(run: Run, tmp_path: Path, places: list[float | None]) -> None:
    assert run(on_disk(tmp_path / "tiny", {"a": places})) == 0
    curves = Path(".artifacts/evaluate/line")
    assert (curves / "det_g.csv").read_text().count("\n") == 1
    assert (curves / "det_g.png").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("nowhere",), "labels.tsv can't be read"),
        (("set", "--engine", "oracle"), "there is no engine oracle"),
        (("set", "--threshold-group", "oracle"), "no other person is in oracle"),
        (("set", "--thresholds-from", "nowhere"), "labels.tsv can't be read"),
        (("set", "--json", "set/labels.tsv/out.json"), "labels.tsv"),
    ],
)
def test_faults_are_a_sentence_and_exit_code_1(
    run: Run, line_folder: Path, options: Sequence[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*options) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("face.evaluate: ")
    assert words in said


@pytest.mark.parametrize("options", [("--models", "weights"), ()], ids=["option", "environment"])
def test_altered_weights_are_named(
    run: Run,
    line_folder: Path,
    options: Sequence[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not options:
        monkeypatch.setenv("CHECKIN_MODELS_DIR", "weights")
    weights = Path("weights")
    weights.mkdir()
    name = "face_recognition_sface_2021dec_int8bq.onnx"
    (weights / name).write_bytes(b"altered")
    assert run(line_folder, "--engine", "sface", "--cache", "cache", *options) == 1
    assert f"{name} was altered" in capsys.readouterr().err


def test_fewer_than_100_splits_are_refused(run: Run, line_folder: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        run(line_folder, "--splits", "99")
    assert caught.value.code == 2


# --- Real photographs ---


def evaluated(folder: Path, engine: str) -> dict[str, Any]:
    """The JSON that the command writes, run as a process of its own in ``folder``."""
    files = ("--json", "out.json", "--scores", "scores.tsv", "--out", "curves")
    subprocess.run(
        [sys.executable, "-m", "face.evaluate", ".", "--engine", engine, *files],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    written: dict[str, Any] = json.loads((folder / "out.json").read_text())
    return written


def side_by_side(*photos: bytes) -> Image.Image:
    pictures = [Image.open(BytesIO(photo)).convert("RGB").resize((600, 600)) for photo in photos]
    joined = Image.new("RGB", (600 * len(pictures), 600))
    for number, picture in enumerate(pictures):
        joined.paste(picture, (600 * number, 0))
    return joined


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_on_the_portraits(tmp_path: Path, engine: str) -> None:
    portraits.write_portraits(tmp_path)
    (tmp_path / "damaged.jpg").write_bytes(portraits.hopper()[:300])
    side_by_side(portraits.hopper(), portraits.astronaut()).save(tmp_path / "together.jpg")
    people = {
        "hopper": ["hopper", "hopper_altered", "damaged"],
        "collins": ["astronaut", "astronaut_altered"],
        "nobody": ["landscape", "together"],
    }
    rows = (f"{who}\t{file}.jpg\tpilot\n" for who, files in people.items() for file in files)
    (tmp_path / "labels.tsv").write_text(HEADER + "".join(rows))
    written = evaluated(tmp_path, engine)
    group = written["groups"]["pilot"]
    assert written["engine"] == engine
    sizes = [group[key] for key in ("persons", "photos", "not_found", "mated", "nonmated")]
    assert sizes == [3, 7, 3, 5, 16]
    scores = {frozenset(line.split("\t")[:2]): line.split("\t")[2] for line in scores_of(tmp_path)}
    assert len(scores) == 21
    assert sum(score == "not_found" for score in scores.values()) == 15
    same = [scores[frozenset((f"{one}.jpg", f"{one}_altered.jpg"))] for one in ("hopper", "astronaut")]
    assert min(map(float, same)) > float(scores[frozenset(("hopper.jpg", "astronaut.jpg"))])
    assert sorted(path.name for path in (tmp_path / "curves").iterdir()) == ["det_pilot.csv", "det_pilot.png"]


def scores_of(folder: Path) -> list[str]:
    return (folder / "scores.tsv").read_text().splitlines()


def test_the_stock_tolerance_fails_east_asian_faces(tmp_path: Path, shared: Path) -> None:
    """What this engine is for, on a part of the shared set: two photographs of eight persons of each group."""
    labelled = read_labels(shared / "data" / "faces_eval")
    (tmp_path / "photos").symlink_to(labelled.folder.resolve())
    rows = (f"{photo.person}\tphotos/{photo.file}\t{photo.group}\n" for photo in some_of(labelled))
    (tmp_path / "labels.tsv").write_text(HEADER + "".join(rows))
    groups = evaluated(tmp_path, "face_recognition")["groups"]
    assert {name: (group["mated"], group["nonmated"]) for name, group in groups.items()} == {
        "other": (8, 112),
        "east_asian": (8, 112),
    }
    fmr = {name: group["at_threshold"]["stock_0.6"]["fmr"] for name, group in groups.items()}
    assert fmr["east_asian"] > 0.2
    assert fmr["other"] < 0.1


def some_of(labelled: LabelledSet, persons: int = 8, photos: int = 2) -> list[Photo]:
    chosen: dict[str, dict[str, list[Photo]]] = {}
    for photo in labelled.photos:
        group = chosen.setdefault(photo.group, {})
        if photo.person in group or len(group) < persons:
            group.setdefault(photo.person, []).append(photo)
    return [photo for group in chosen.values() for each in group.values() for photo in each[:photos]]
