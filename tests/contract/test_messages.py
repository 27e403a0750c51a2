"""Every code has its words in every language, and a header always leads to one of them."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

import geofence
from checkin_service.domain.consent import CONSENT_SCOPES
from checkin_service.domain.enterprise import USCCFault
from checkin_service.domain.reasons import (
    DOUBTFUL,
    REFUSING,
    Doubt,
    Missing,
    NextStep,
    NotEnrolled,
    PhotoWarning,
    Reason,
)
from checkin_service.domain.review import Likeness
from checkin_service.domain.roster import RosterFaultCode
from checkin_service.domain.signals import Signal
from checkin_service.domain.window import DeadlineFault
from checkin_service.web.error_codes import ErrorCode, FaultCode
from checkin_service.web.messages import (
    CATALOGUE,
    NOTICE_VERSION,
    Language,
    Parameter,
    doubt_text,
    fault_text,
    likeness_text,
    missing_text,
    negotiate,
    next_advice,
    next_text,
    not_enrolled_text,
    notice,
    problem_text,
    reason_text,
    signal_text,
    warning_text,
)

SECTIONS: dict[str, tuple[Iterable[str], set[str]]] = {
    "reason": (Reason, {"message", "advice"}),
    "next_step": (NextStep, {"text", "advice"}),
    "missing": (Missing, {"message"}),
    "doubt": (Doubt, {"message", "advice"}),
    "problem": (ErrorCode, {"title", "detail"}),
    "fault": (FaultCode, {"message"}),
    "warning": (PhotoWarning, {"message"}),
    "not_enrolled": (NotEnrolled, {"message"}),
    "likeness": (Likeness, {"text"}),
    "signal": (Signal, {"message"}),
}
# Neither character set holds the other script's own characters.
CHARACTER_SETS = {Language.ZH_CN: "gb2312", Language.ZH_HK: "big5hkscs"}
PLACEHOLDER = re.compile(r"\{(\w+)\}")
AT = datetime.fromisoformat("2026-12-04T00:00:00+08:00")
EVERY_PARAMETER: dict[str, Parameter] = {
    **dict.fromkeys(("opens_at", "closes_at", "retry_at", "accepted_at"), AT),
    **dict.fromkeys(("attempts", "accuracy_m", "distance_m", "limit_mb", "retry_after_s"), 7),
    **dict.fromkeys(("minimum", "maximum", "needed", "present", "round"), 3),
    **dict.fromkeys(("registered_address", "state", "case_id", "expected", "allowed"), "X"),
    "quality": [FaultCode.TOO_DARK],
}


def texts() -> Iterator[tuple[str, dict[str, str]]]:
    for section, entries in CATALOGUE.items():
        for code, parts in entries.items():
            for part, languages in parts.items():
                yield f"{section}.{code}.{part}", dict(languages)


def spoken(language: Language, params: dict[str, Parameter]) -> list[str]:
    """Every text of the catalogue, as a person would get it."""
    shown: list[str] = []
    for reason in Reason:
        shown += reason_text(reason, language, **params)
    for code in ErrorCode:
        shown += problem_text(code, language, **params)
    for doubt in Doubt:
        shown += doubt_text(doubt, language, **params)
    for step in NextStep:
        shown += [next_text(step, language, **params), next_advice(step, language, **params)]
    shown += [missing_text(missing, language) for missing in Missing]
    shown += [warning_text(warning, language) for warning in PhotoWarning]
    shown += [not_enrolled_text(why, language) for why in NotEnrolled]
    shown += [likeness_text(word, language) for word in Likeness]
    shown += [signal_text(signal, language) for signal in Signal]
    return shown + [fault_text(fault, language, **params) for fault in FaultCode]


def test_the_catalogue_holds_every_code_and_no_other() -> None:
    assert set(CATALOGUE) == set(SECTIONS)
    for section, (codes, parts) in SECTIONS.items():
        assert set(CATALOGUE[section]) == set(codes)
        assert all(set(entry) == parts for entry in CATALOGUE[section].values())


def test_every_text_is_there_in_every_language() -> None:
    for name, languages in texts():
        assert list(languages) == [str(language) for language in Language], name
        assert all(text.strip() == text != "" for text in languages.values()), name


def test_placeholders_are_the_same_in_every_language() -> None:
    for name, languages in texts():
        found = {tuple(sorted(PLACEHOLDER.findall(text))) for text in languages.values()}
        assert len(found) == 1, name


def test_no_sentence_can_have_a_hole() -> None:
    for name, languages in texts():
        for text in languages.values():
            outside = re.sub(r"\[[^\[\]]*\]", "", text)
            assert not set("[]{}") & set(outside), name


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("params", [{}, EVERY_PARAMETER], ids=["none", "all"])
def test_texts_are_filled_completely(language: Language, params: dict[str, Parameter]) -> None:
    for text in spoken(language, params):
        assert text
        assert not set("[]{}") & set(text)


def test_all_parameters_are_put_to_use() -> None:
    used = {
        name for _, languages in texts() for text in languages.values() for name in PLACEHOLDER.findall(text)
    }
    assert used == set(EVERY_PARAMETER)


@pytest.mark.parametrize("language", CHARACTER_SETS)
def test_chinese_is_written_in_its_own_script(language: Language) -> None:
    for text in [*spoken(language, {}), notice(language).text]:
        text.encode(CHARACTER_SETS[language])
    other = next(known for known in CHARACTER_SETS if known is not language)
    with pytest.raises(UnicodeEncodeError):
        notice(language).text.encode(CHARACTER_SETS[other])


# Against these no way of judging a person helps.
OF_THE_TASK = {Reason.TASK_NOT_OPEN, Reason.WINDOW_NOT_OPEN, Reason.WINDOW_CLOSED}


@pytest.mark.parametrize("reason", sorted((REFUSING | DOUBTFUL) - OF_THE_TASK))
@pytest.mark.parametrize(
    ("language", "way"), [("zh-CN", "人工核验"), ("zh-HK", "人工核實"), ("en", "manual check")]
)
def test_whoever_is_stuck_is_told_of_the_way_without_a_face(reason: Reason, language: str, way: str) -> None:
    assert way in reason_text(reason, Language(language))[1]


def test_codes_that_the_rules_and_the_fence_speak_of_are_known() -> None:
    ruled = {code for codes in (USCCFault, RosterFaultCode, DeadlineFault) for code in get_args(codes)}
    assert ruled <= set(FaultCode)
    assert {str(code) for code in FaultCode if code.startswith("fence_")} == set(map(str, geofence.FaultCode))


def test_an_unknown_fault_is_an_error_of_the_program() -> None:
    with pytest.raises(ValueError, match="no_such_fault"):
        fault_text("no_such_fault", Language.EN)


def test_values_are_never_read_as_text_to_fill_in() -> None:
    advice = reason_text(
        Reason.OUTSIDE_GEOFENCE, Language.EN, registered_address="[{distance_m}] {0.__class__}"
    )[1]
    assert "([{distance_m}] {0.__class__})" in advice


def test_a_value_that_is_none_counts_as_not_given() -> None:
    assert reason_text(Reason.OUTSIDE_GEOFENCE, Language.EN, distance_m=None) == reason_text(
        Reason.OUTSIDE_GEOFENCE, Language.EN
    )


@pytest.mark.parametrize(
    ("language", "instant", "shown"),
    [
        ("zh-CN", "2026-12-04T00:00:00+08:00", "2026年12月3日 24:00"),
        ("zh-HK", "2026-12-03T16:00:00+00:00", "2026年12月3日 24:00"),
        ("en", "2027-01-01T00:00:00+08:00", "24:00 on 2026-12-31"),
        ("en", "2026-11-03T02:05:59.9+00:00", "10:05 on 2026-11-03"),
    ],
)
def test_times_are_shown_in_shanghai_and_a_deadline_as_its_last_day(
    language: str, instant: str, shown: str
) -> None:
    at = datetime.fromisoformat(instant)
    assert shown in reason_text(Reason.WINDOW_CLOSED, Language(language), closes_at=at)[0]


def test_advice_on_a_poor_photograph_says_what_was_poor() -> None:
    quality = [FaultCode.TOO_DARK, FaultCode.BLURRED]
    for language in Language:
        advice = reason_text(Reason.POOR_QUALITY, language, quality=quality)[1]
        assert all(fault_text(code, language) in advice for code in quality)


# --- Choosing a language ---


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "zh-CN"),
        ("", "zh-CN"),
        ("zh", "zh-CN"),
        ("zh-CN", "zh-CN"),
        ("zh-Hans-HK", "zh-CN"),
        ("zh-SG", "zh-CN"),
        ("cmn", "zh-CN"),
        ("zh-HK", "zh-HK"),
        ("ZH-hk", "zh-HK"),
        ("zh-TW", "zh-HK"),
        ("zh-MO", "zh-HK"),
        ("zh-Hant", "zh-HK"),
        ("zh-Hant-CN", "zh-HK"),
        ("yue", "zh-HK"),
        ("en", "en"),
        ("en-GB", "en"),
        ("fr", "zh-CN"),
        ("fr, en", "en"),
        ("en;q=0.5, zh-HK;q=0.9", "zh-HK"),
        ("en ; q=0.5 ,\tzh-HK;q=0.4", "en"),
        ("en, zh-HK", "en"),
        ("zh-HK, en", "zh-HK"),
        ("fr-CH, fr;q=0.9, en;q=0.8, *;q=0.5", "en"),
        ("*", "zh-CN"),
        ("*, en", "en"),
        ("en;q=0.2, *;q=0.8", "zh-CN"),
        ("zh-CN;q=0, *", "zh-HK"),
        ("zh-CN;q=0, zh-HK;q=0, *;q=0.1", "en"),
        ("en;q=0", "zh-CN"),
        ("*;q=0", "zh-CN"),
        ("en;q=0.000, fr", "zh-CN"),
        ("zh-HK;q=0, zh-TW;q=0.3", "zh-HK"),
        ("en;q=1.5, zh-HK;q=0.1", "zh-HK"),
        ("en;q=0.1234, zh-HK;q=0.1", "zh-HK"),
        ("en;q=-1, zh-HK;q=0.1", "zh-HK"),
        ("en;q=nan, zh-HK;q=0.1", "zh-HK"),
        ("en;q=, zh-HK;q=0.1", "zh-HK"),
        ("en;level=1, zh-HK;q=0.1", "zh-HK"),
        ("en;q=１, zh-HK;q=0.1", "zh-HK"),
        (",,;q=1,-,en-,zh_CN,\x00, en;q=0.1", "en"),
        ("englishlanguage", "zh-CN"),
        ("en" + " " * 8000 + ";q=1x, zh-HK;q=0.1", "zh-HK"),
        ("-".join(["en"] + ["a"] * 4000), "en"),
        ("," * 8000 + "en", "en"),
    ],
)
def test_negotiation(header: str | None, language: str) -> None:
    assert negotiate(header) == language


RANGES = st.sampled_from(["zh", "zh-hk", "en", "*", "fr", "", "-"])
QUALITIES = st.sampled_from(["", ";q=0", ";q=0.3", ";q=1.000", ";q=2", ";q", ";"])


@given(st.text() | st.lists(st.tuples(RANGES, QUALITIES).map("".join)).map(",".join))
def test_any_header_leads_to_a_language(header: str) -> None:
    assert negotiate(header) in Language


# --- The consent notice ---


@pytest.mark.parametrize("language", Language)
def test_the_notice_is_what_its_digest_says(language: Language) -> None:
    shown = notice(language)
    assert (shown.version, shown.language, shown.scopes) == (NOTICE_VERSION, language, CONSENT_SCOPES)
    assert shown.text_sha256 == hashlib.sha256(shown.text.encode()).hexdigest()
    assert NOTICE_VERSION in shown.text


def outline(text: str) -> list[str]:
    """The kind of each line: heading, numbered scope, list entry, paragraph."""
    return [re.match(r"#+ |\d\. |- |", line)[0] for line in text.splitlines() if line]  # type: ignore[index]


def test_the_notice_has_the_same_parts_in_every_language() -> None:
    first, *others = [outline(notice(language).text) for language in Language]
    assert others == [first] * len(others)
    assert [kind for kind in first if kind[0:1].isdigit()] == ["1. ", "2. ", "3. "]
    assert len(CONSENT_SCOPES) == 3


@pytest.mark.parametrize(
    ("language", "articles"),
    [
        ("zh-CN", ["第六条", "第八条", "第十条", "第二十九条", "第十五条"]),
        ("zh-HK", ["第六條", "第八條", "第十條", "第二十九條", "第十五條"]),
        ("en", ["article 6", "article 8", "article 10", "article 29", "article 15"]),
    ],
)
def test_the_notice_names_the_law(language: str, articles: list[str]) -> None:
    text = notice(Language(language)).text
    assert [article for article in articles if article not in text] == []
