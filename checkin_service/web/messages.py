"""Every text a person is shown, in three languages, and the choice between them by `Accept-Language`.

The texts are data, in `messages.toml` and `notices/`; codes never change with the language.
"""

import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from enum import StrEnum
from functools import cache
from pathlib import Path

from checkin_service.domain.calendar import shanghai_time
from checkin_service.domain.consent import CONSENT_SCOPES
from checkin_service.domain.reasons import Doubt, Missing, NextStep, NotEnrolled, PhotoWarning, Reason
from checkin_service.domain.review import Likeness
from checkin_service.domain.signals import Signal
from checkin_service.web.error_codes import ErrorCode, FaultCode

NOTICE_VERSION = "2026-12"

# What a text may be filled with; None counts as not given. A sequence is of fault codes, shown as their
# sentences: so the advice on a poor photograph says what was poor.
Parameter = str | int | float | datetime | Sequence[str] | None

_HERE = Path(__file__).parent


class Language(StrEnum):
    """The languages of the catalogue; the first is the default."""

    ZH_CN = "zh-CN"
    ZH_HK = "zh-HK"
    EN = "en"


# section → code → part (message, advice, title, detail, text) → language → text
CATALOGUE: Mapping[str, Mapping[str, Mapping[str, Mapping[str, str]]]] = tomllib.loads(
    (_HERE / "messages.toml").read_text("utf-8")
)


def reason_text(reason: Reason, language: Language, **params: Parameter) -> tuple[str, str]:
    """Message and advice for a reason of a check-in.

    Parameters, all optional: `opens_at`, `closes_at`, `retry_at`, `accepted_at` (aware datetimes),
    `attempts`, `accuracy_m`, `distance_m`, `registered_address`, `quality` (fault codes).

    >>> reason_text(Reason.OUTSIDE_GEOFENCE, Language.EN, distance_m=320)[0]
    'You are outside the check-in area, by about 320 m.'
    >>> reason_text(Reason.OUTSIDE_GEOFENCE, Language.EN)[0]
    'You are outside the check-in area.'
    """
    entry = CATALOGUE["reason"][reason]
    return _filled(entry["message"], language, params), _filled(entry["advice"], language, params)


def next_text(step: NextStep, language: Language, **params: Parameter) -> str:
    """What to do next about a task. Parameters, all optional: `opens_at`, `closes_at` (aware datetimes)."""
    return _filled(CATALOGUE["next_step"][step]["text"], language, params)


def next_advice(step: NextStep, language: Language, **params: Parameter) -> str:
    """The same, to the firm or the platform about one of the roster. Parameters as for `next_text`."""
    return _filled(CATALOGUE["next_step"][step]["advice"], language, params)


def missing_text(missing: Missing, language: Language) -> str:
    """What keeps a roster member from being accepted, to the firm or the platform."""
    return _filled(CATALOGUE["missing"][missing]["message"], language, {})


def doubt_text(doubt: Doubt, language: Language, **params: Parameter) -> tuple[str, str]:
    """Message and advice on what is to be looked at before the first day. Parameter, optional: `distance_m`."""
    entry = CATALOGUE["doubt"][doubt]
    return _filled(entry["message"], language, params), _filled(entry["advice"], language, params)


def warning_text(warning: PhotoWarning, language: Language) -> str:
    """What could be better about a reference photograph."""
    return _filled(CATALOGUE["warning"][warning]["message"], language, {})


def not_enrolled_text(why: NotEnrolled, language: Language) -> str:
    """Why a person of an enrolment list is left out, and what to do."""
    return _filled(CATALOGUE["not_enrolled"][why]["message"], language, {})


def signal_text(signal: Signal, language: Language) -> str:
    """What a signal says, to a reviewer; how honest people cause it stands in docs/signals.md."""
    return _filled(CATALOGUE["signal"][signal]["message"], language, {})


def likeness_text(word: Likeness, language: Language) -> str:
    """How alike two faces are, to a reviewer."""
    return _filled(CATALOGUE["likeness"][word]["text"], language, {})


def problem_text(code: ErrorCode, language: Language, **params: Parameter) -> tuple[str, str]:
    """Title and detail of a problem; the detail says what to do.

    Parameters, all optional: `needed` (scopes), `state`, `case_id`, `round`, `limit_mb`, `expected`,
    `retry_after_s`.
    """
    entry = CATALOGUE["problem"][code]
    return _filled(entry["title"], language, params), _filled(entry["detail"], language, params)


def fault_text(code: str, language: Language, **params: Parameter) -> str:
    """The message for `errors[].code`; ValueError when it is no `FaultCode`.

    Parameters, all optional: `expected`, `allowed`, `minimum`, `maximum`, `needed`, `present`,
    `closes_at`.

    >>> fault_text("too_long", Language.EN, maximum=500)
    'Too long or too many; at most 500.'
    """
    return _filled(CATALOGUE["fault"][FaultCode(code)]["message"], language, params)


@dataclass(frozen=True, slots=True)
class Notice:
    """The consent notice as shown: the digest proves later which text a person agreed to."""

    version: str
    language: Language
    text: str
    text_sha256: str
    scopes: tuple[str, ...]


@cache
def notice(language: Language) -> Notice:
    """The current consent notice in a language; `text_sha256` is over its UTF-8 bytes, in hexadecimal."""
    text = (_HERE / "notices" / f"{NOTICE_VERSION}.{language}.md").read_text("utf-8")
    return Notice(NOTICE_VERSION, language, text, hashlib.sha256(text.encode()).hexdigest(), CONSENT_SCOPES)


# --- Filling in a text ---

_OPTIONAL_PART = re.compile(r"\[([^\[\]]*)\]")
_MIDNIGHT = time.min


def _filled(texts: Mapping[str, str], language: Language, params: Mapping[str, Parameter]) -> str:
    shown = {name: _shown(value, language) for name, value in params.items() if value is not None}

    def part(match: re.Match[str]) -> str:
        try:
            return match[1].format_map(shown)
        except KeyError:
            return ""

    return _OPTIONAL_PART.sub(part, texts[language])


def _shown(value: Parameter, language: Language) -> str:
    match value:
        case datetime():
            return _shown_time(value, language)
        case float():
            return f"{value:.15g}"
        case list() | tuple():
            sentences = [fault_text(code, language) for code in value]
            return (" " if language is Language.EN else "").join(sentences)
        case _:
            return str(value)


def _shown_time(instant: datetime, language: Language) -> str:
    """To the minute, in Shanghai's time. Midnight ends the day before: a deadline is read as its last day."""
    local = shanghai_time(instant)
    day, clock = local.date(), f"{local:%H:%M}"
    if local.time() == _MIDNIGHT:
        day, clock = day - timedelta(days=1), "24:00"
    if language is Language.EN:
        return f"{clock} on {day.isoformat()}"
    return f"{day.year}年{day.month}月{day.day}日 {clock}"


# --- Choosing a language (RFC 9110, section 12.5.4) ---

_RANGE = re.compile(
    r"(?P<tag>\*|[a-z]{1,8}(?:-[a-z0-9]{1,8})*)(?:[ \t]*;[ \t]*q=(?P<q>0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?"
)
_TRADITIONAL = frozenset({"hant", "hk", "mo", "tw"})


def negotiate(accept_language: str | None) -> Language:
    """The language to answer in; whatever the header holds, there is one.

    Chinese in traditional script or from Hong Kong, Macao or Taiwan gives zh-HK, other Chinese zh-CN. What
    cannot be read or is not spoken here is passed over; equal qualities go by their order in the header.

    >>> negotiate("en-GB;q=0.8, zh-TW").value, negotiate("fr, *;q=0.1").value, negotiate(None).value
    ('zh-HK', 'zh-CN', 'zh-CN')
    """
    named: dict[Language, float] = {}
    others = 0.0
    for tag, quality in _ranges(accept_language or ""):
        language = _spoken(tag)
        if tag == "*":
            others = quality
        elif language:
            named[language] = max(quality, named.get(language, 0.0))
    qualities = named | {language: others for language in Language if language not in named}
    best = max(qualities, key=qualities.__getitem__)
    return best if qualities[best] > 0 else Language.ZH_CN


def _ranges(header: str) -> list[tuple[str, float]]:
    """Language ranges in small letters with their quality, those that can be read."""
    matches = [_RANGE.fullmatch(element.strip(" \t")) for element in header.lower().split(",")]
    return [(match["tag"], float(match["q"] or 1)) for match in matches if match]


def _spoken(tag: str) -> Language | None:
    primary, *subtags = tag.split("-")
    if primary == "en":
        return Language.EN
    if primary == "yue":
        return Language.ZH_HK
    if primary not in {"zh", "cmn"}:
        return None
    traditional = "hans" not in subtags and not _TRADITIONAL.isdisjoint(subtags)
    return Language.ZH_HK if traditional else Language.ZH_CN
