"""All configuration, read once from the environment into one frozen object. The README's table is tested against it."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TILES = re.compile(r"https://[A-Za-z0-9.:-]+/(?=\S*\{z\})(?=\S*\{x\})(?=\S*\{y\})[^\s\"'<>;,]*")


class SettingError(ValueError):
    """A variable holds something unusable; the message names it and says what is expected."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One environment variable: how it is read, what it defaults to, what it is for."""

    variable: str
    default: str
    parse: Callable[[str], Any]
    meaning: str


def _optional(text: str) -> str | None:
    return text or None


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError("must be at least 1")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise ValueError("must be from 0 to 65535")
    return value


def _number(minimum: float, maximum: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = float(text)
        if not minimum <= value <= maximum:
            raise ValueError(f"must be from {minimum:g} to {maximum:g}")
        return value

    return parse


def _box(text: str) -> tuple[float, float, float, float]:
    south, north, west, east = (float(part) for part in text.split(","))
    if not (-90 <= south < north <= 90 and -180 <= west < east <= 180):
        raise ValueError("must be south,north,west,east in degrees")
    return south, north, west, east


def _one_of(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(f"must be {' or '.join(names)}")
        return text

    return parse


def _switch(text: str) -> bool:
    return _one_of("off", "on")(text) == "on"


def _folder(text: str) -> Path | None:
    return Path(text) if text else None


def _bucket(text: str) -> str | None:
    if text and not text.startswith("s3://"):
        raise ValueError("must be s3://bucket/prefix")
    return text or None


def _grace(text: str) -> float | None:
    # beyond it the 30 s of a drain would be used up by waiting
    return _number(0, 15)(text) if text else None


def _tiles(text: str) -> str | None:
    """What stands in a policy of its own has to be an origin and nothing else."""
    if text and not _TILES.fullmatch(text):
        raise ValueError("must be https://host/… with {z}, {x} and {y}, and no space, quote or semicolon")
    return text or None


def _web_url(text: str) -> str:
    if not text.startswith(("https://", "http://")):
        raise ValueError("must be an http or https address")
    return text


def _optional_web_url(text: str) -> str | None:
    return _web_url(text) if text else None


def _web_urls(text: str) -> tuple[str, ...]:
    return tuple(_web_url(part.strip()) for part in text.split(",") if part.strip())


def _workers(text: str) -> int:
    return _positive(text) if text else len(os.sched_getaffinity(0))


SETTINGS: Mapping[str, Setting] = {
    "host": Setting("CHECKIN_HOST", "127.0.0.1", str, "Address to listen on"),
    "port": Setting("CHECKIN_PORT", "8080", _port, "Port to listen on; 0 picks a free one"),
    "data_dir": Setting("CHECKIN_DATA_DIR", ".data", Path, "Embedded stores, keys, evidence"),
    "database_url": Setting("DATABASE_URL", "", _optional, "PostgreSQL 15 or newer; unset: the embedded one"),
    "migration_database_url": Setting(
        "CHECKIN_MIGRATION_DATABASE_URL",
        "",
        _optional,
        "The same for the owner of the tables, for `migrate` alone; unset: `DATABASE_URL`",
    ),
    "audit_database_url": Setting(
        "CHECKIN_AUDIT_DATABASE_URL",
        "",
        _optional,
        "The same for who may only read the audit, for `audit-verify` alone",
    ),
    "redis_url": Setting("REDIS_URL", "", _optional, "Redis or Valkey; unset: the embedded one"),
    "jwks": Setting(
        "CHECKIN_JWKS",
        "",
        _optional,
        "File or URL of the issuer's key set; unset: the development key, embedded stores only",
    ),
    "key_file": Setting(
        "CHECKIN_KEY_FILE",
        "",
        _optional,
        "File, or directory of a mounted secret, with the keys that wrap the persons' data keys; unset: made in the "
        "data directory",
    ),
    "key_store_url": Setting(
        "CHECKIN_KEY_STORE_URL",
        "",
        _optional,
        "PostgreSQL database of the persons' wrapped data keys; unset: one of its own on the embedded server, or that "
        "of `DATABASE_URL`",
    ),
    "receipt_key_file": Setting(
        "CHECKIN_RECEIPT_KEY_FILE",
        "",
        _optional,
        "File with the keys that sign receipts; unset: made in the data directory",
    ),
    "evidence_url": Setting(
        "CHECKIN_EVIDENCE_URL",
        "",
        _bucket,
        "Bucket for encrypted evidence, `s3://bucket/prefix`; unset: `evidence` in the data directory",
    ),
    "enrolment_basis": Setting(
        "CHECKIN_ENROLMENT_BASIS",
        "separate_consent",
        _one_of("separate_consent", "statutory_duty"),
        "Legal basis recorded for an enrolment that names none",
    ),
    "service_box": Setting(
        "CHECKIN_SERVICE_BOX",
        "22.3,23.2,113.6,115.5",
        _box,
        "South, north, west, east in WGS-84 degrees that fences must lie in",
    ),
    "max_accuracy_m": Setting(
        "CHECKIN_MAX_ACCURACY_M", "100", _number(1, 10_000), "A fix less accurate than this is not used"
    ),
    "attempts_per_day": Setting(
        "CHECKIN_ATTEMPTS_PER_DAY", "10", _positive, "Counted attempts per person, task and Shanghai day"
    ),
    "person_challenges_per_minute": Setting(
        "CHECKIN_PERSON_CHALLENGES_PER_MINUTE",
        "60",
        _positive,
        "Challenges one person may ask for, and with them check-ins; needs Redis, open without it",
    ),
    "face_engine": Setting(
        "CHECKIN_FACE_ENGINE",
        "sface",
        _one_of("sface", "dlib"),
        "`sface`: SFace decides and dlib's embedding is kept beside it; `dlib`: dlib alone",
    ),
    "operating_point": Setting(
        "CHECKIN_OPERATING_POINT",
        "lfw_ea_1e3",
        _one_of("lfw_ea_1e2", "lfw_ea_1e3", "lfw_other_1e3"),
        "Named threshold of the engine's score, see docs/accuracy.md",
    ),
    "models_dir": Setting(
        "CHECKIN_MODELS_DIR", "", _folder, "Folder with weight files that go before those of the packages"
    ),
    "passive_pad": Setting(
        "CHECKIN_PASSIVE_PAD",
        "off",
        _switch,
        "`on`: look for presentation attacks with MiniFASNet, whose files lie in `CHECKIN_MODELS_DIR`",
    ),
    "liveness": Setting(
        "CHECKIN_LIVENESS",
        "off",
        _one_of("off", "on", "wechat"),
        "`on`: challenges ask for turns of the head, shown in a burst of frames; `wechat`: for WeChat's face "
        "verification where it can be had, and else for turns",
    ),
    "wechat_app_id": Setting(
        "CHECKIN_WECHAT_APP_ID", "", _optional, "The mini-program's AppID, see docs/wechat.md"
    ),
    "wechat_secret_file": Setting(
        "CHECKIN_WECHAT_SECRET_FILE", "", _optional, "File with the mini-program's AppSecret"
    ),
    "wechat_url": Setting(
        "CHECKIN_WECHAT_URL", "https://api.weixin.qq.com", _web_url, "Where WeChat's server is asked"
    ),
    "face_workers": Setting("CHECKIN_FACE_WORKERS", "", _workers, "Face worker processes; unset: one a core"),
    "face_queue": Setting(
        "CHECKIN_FACE_QUEUE", "256", _positive, "Photographs that may wait for a face worker before 503"
    ),
    "longest_wait_s": Setting(
        "CHECKIN_LONGEST_WAIT_S",
        "3",
        _number(0.1, 1_000_000),
        "Expected seconds until a face worker is free, beyond which submissions are answered 503 unread",
    ),
    "receipt_first_hours": Setting(
        "CHECKIN_RECEIPT_FIRST_HOURS",
        "2",
        _number(0, 24),
        "So long before a task closes its members' submissions are taken all the same and judged later; 0: never",
    ),
    "longest_deferral_s": Setting(
        "CHECKIN_LONGEST_DEFERRAL_S",
        "240",
        _number(1, 100_000),
        "Seconds that this process's workers would take for all that waits, beyond which not even that",
    ),
    "face_deadline_s": Setting(
        "CHECKIN_FACE_DEADLINE_S",
        "10",
        # twice this stays below the lease of a receipt, see adapters/postgres/check_ins.py
        _number(0.1, 12),
        "Seconds one photograph may wait for a worker, and may take there",
    ),
    "face_tier_urls": Setting(
        "CHECKIN_FACE_TIER_URL",
        "",
        _web_urls,
        "Replicas of the face tier, `https://host:port` with commas between, which then have as many photographs of "
        "this process at once as there are `CHECKIN_FACE_WORKERS`; unset: the workers here have them all",
    ),
    "face_tier_token_file": Setting(
        "CHECKIN_FACE_TIER_TOKEN_FILE",
        "",
        _folder,
        "File with the secret that the tier and its callers share",
    ),
    "face_tier_ca_file": Setting(
        "CHECKIN_FACE_TIER_CA_FILE",
        "",
        _folder,
        "File with the certificates of who signs the tier's; unset: whom this machine trusts",
    ),
    "face_tier_fallback": Setting(
        "CHECKIN_FACE_TIER_FALLBACK",
        "local",
        _one_of("local", "none"),
        "While no replica answers: `local` workers, which are kept warm for it, or `none`, 503",
    ),
    "face_tier_cert_file": Setting(
        "CHECKIN_FACE_TIER_CERT_FILE", "", _optional, "For `face-tier`: its certificate; unset: no TLS"
    ),
    "face_tier_key_file": Setting(
        "CHECKIN_FACE_TIER_KEY_FILE", "", _optional, "For `face-tier`: its certificate's key"
    ),
    "traces_url": Setting(
        "CHECKIN_TRACES_URL",
        "",
        _optional_web_url,
        "OpenTelemetry collector that takes traces by OTLP over HTTP, `http://collector:4318/v1/traces`; unset: none",
    ),
    "database_connections": Setting(
        "CHECKIN_DATABASE_CONNECTIONS", "10", _positive, "Largest size of the connection pool"
    ),
    "configured_grace_s": Setting(
        "CHECKIN_DRAIN_GRACE_S",
        "",
        _grace,
        "Seconds after SIGTERM for which whoever comes is still served, while readiness is red; unset: 5, and 0 with "
        "the embedded stores",
    ),
    "event_streams": Setting(
        "CHECKIN_EVENT_STREAMS",
        "100",
        _positive,
        "Consoles that may be told what happens, at once and a process",
    ),
    "base_map": Setting(
        "CHECKIN_BASE_MAP",
        "",
        _tiles,
        "Tiles under the console's map, `https://host/{z}/{x}/{y}.png`; unset: none, and no other host is asked",
    ),
    "base_map_frame": Setting(
        "CHECKIN_BASE_MAP_FRAME",
        "gcj02",
        _one_of("gcj02", "wgs84"),
        "The frame in which those tiles are drawn",
    ),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """The service's configuration; `SETTINGS` says what each field means."""

    host: str
    port: int
    data_dir: Path
    database_url: str | None
    migration_database_url: str | None
    audit_database_url: str | None
    redis_url: str | None
    jwks: str | None
    key_file: str | None
    key_store_url: str | None
    receipt_key_file: str | None
    evidence_url: str | None
    enrolment_basis: str
    service_box: tuple[float, float, float, float]
    max_accuracy_m: float
    attempts_per_day: int
    person_challenges_per_minute: int
    face_engine: str
    operating_point: str
    models_dir: Path | None
    passive_pad: bool
    liveness: str
    wechat_app_id: str | None
    wechat_secret_file: str | None
    wechat_url: str
    face_workers: int
    face_queue: int
    longest_wait_s: float
    receipt_first_hours: float
    longest_deferral_s: float
    face_deadline_s: float
    face_tier_urls: tuple[str, ...]
    face_tier_token_file: Path | None
    face_tier_ca_file: Path | None
    face_tier_fallback: str
    face_tier_cert_file: str | None
    face_tier_key_file: str | None
    traces_url: str | None
    database_connections: int
    configured_grace_s: float | None
    event_streams: int
    base_map: str | None
    base_map_frame: str

    @property
    def all_embedded(self) -> bool:
        """Whether both stores are the embedded ones: only then is there a development key."""
        return self.database_url is None and self.redis_url is None

    @property
    def drain_grace_s(self) -> float:
        """With the embedded stores there is nobody else to send anybody to."""
        if self.configured_grace_s is None:
            return 0.0 if self.all_embedded else 5.0
        return self.configured_grace_s

    @property
    def key_path(self) -> Path:
        return Path(self.key_file) if self.key_file else self.data_dir / "keys" / "wrapping-keys.json"

    @property
    def receipt_key_path(self) -> Path:
        named = self.receipt_key_file
        return Path(named) if named else self.data_dir / "keys" / "receipt-keys.json"


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from the environment. Raises `SettingError` naming the variable that is wrong."""
    return Settings(**{name: _read(setting, environ) for name, setting in SETTINGS.items()})


def _read(setting: Setting, environ: Mapping[str, str]) -> Any:
    text = environ.get(setting.variable) or setting.default
    try:
        return setting.parse(text)
    except ValueError as error:
        raise SettingError(f"{setting.variable}={text!r} is not usable: {error}") from error
