"""Notices for 2027, invented: what the State Council will publish nobody knows yet."""

import json
from typing import Any

Json = dict[str, Any]

# The statutory holidays of 2027 with a bridge or two; nothing of it touches the windows of the tests.
_HOLIDAYS = [
    ("元旦", "2027-01-01", "2027-01-03"),
    ("春节", "2027-02-05", "2027-02-11"),
    ("清明节", "2027-04-03", "2027-04-05"),
    ("劳动节", "2027-05-01", "2027-05-05"),
    ("端午节", "2027-06-09", "2027-06-09"),
    ("中秋节", "2027-09-15", "2027-09-15"),
    ("国庆节", "2027-10-01", "2027-10-07"),
]
_WORKDAYS = ["2027-01-30", "2027-02-20", "2027-05-08", "2027-10-09"]


def period(first: str, last: str, holiday: str = "虚构") -> Json:
    return {"holiday": holiday, "from": first, "to": last}


def notice_2027(*more_off: Json, workdays: list[str] | None = None, **changes: Any) -> Json:
    """The invented notice, with further periods off and further workdays."""
    return {
        "year": 2027,
        "source": "虚构的通知",
        "days_off": [*(period(first, last, name) for name, first, last in _HOLIDAYS), *more_off],
        "workdays": [*_WORKDAYS, *(workdays or [])],
        **changes,
    }


def as_file(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()
