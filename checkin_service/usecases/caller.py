"""Who is calling."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class WeChatAccount:
    """Whose WeChat account and identity card a person's are, as the issuer has found out: see docs/wechat.md."""

    openid: str = field(repr=False)
    cert_hash: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Caller:
    """The verified token's issuer, subject and scopes."""

    iss: str
    sub: str
    scopes: frozenset[str]
    wechat: WeChatAccount | None = None


SYSTEM = Caller("checkin_service", "system", frozenset())
"""Who answers for what no caller asked for. No token is taken that names this issuer, see `web/auth.py`."""
