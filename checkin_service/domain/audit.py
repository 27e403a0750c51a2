"""The audit as a chain of hashes: how a row's hash is made, and what is wrong with rows that somebody has worked on.

docs/audit.md says it byte for byte, for who checks it with a program of their own; `append_audit` of the schema writes
it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

NO_HASH = bytes(32)


@dataclass(frozen=True, slots=True)
class AuditHead:
    """A row and its hash, which stands for the row and for all before it."""

    seq: int
    hash: bytes

    @classmethod
    def parse(cls, text: str) -> "AuditHead":
        """`SEQ:HASH`, the hash in hexadecimal. Raises `ValueError`."""
        seq, _, digest = text.partition(":")
        head = cls(int(seq), bytes.fromhex(digest))
        if head.seq < 0 or len(head.hash) != len(NO_HASH):
            raise ValueError("a head is SEQ:HASH, as GET /v1/audit/head tells it")
        return head

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash.hex()}"


BEFORE_ALL = AuditHead(0, NO_HASH)


@dataclass(frozen=True, slots=True)
class AuditRow:
    """`details` are the very characters that were stored; None, with `salt`, once an erasure has taken them out."""

    seq: int
    at: datetime
    iss: str
    actor: str
    action: str
    task_id: str | None
    details: str | None
    salt: bytes | None
    details_digest: bytes
    prev: bytes
    hash: bytes


class AuditFault(StrEnum):
    MISSING = "missing"
    INSERTED = "inserted"
    CHANGED = "changed"
    UNCHAINED = "unchained"
    EMPTIED = "emptied"
    NOT_THE_HEAD = "not_the_head"


def row_hash(row: AuditRow) -> bytes:
    """SHA-256 over the hash of the row before, this row's fields, and the digest of its details."""
    at = row.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    fields = (str(row.seq), at, row.iss, row.actor, row.action, row.task_id)
    return hashlib.sha256(row.prev + b"".join(map(_field, fields)) + row.details_digest).digest()


def _field(value: str | None) -> bytes:
    """
    >>> _field("ü"), _field(None)
    (b'\\x00\\x00\\x00\\x02\\xc3\\xbc', b'\\xff\\xff\\xff\\xff')
    """
    if value is None:
        return (-1).to_bytes(4, signed=True)
    encoded = value.encode()
    return len(encoded).to_bytes(4) + encoded


def is_genuine(row: AuditRow) -> bool:
    """Whether hash and digest are those of this row."""
    if row.details is not None and row.salt is not None:
        found = hashlib.sha256(row.salt + row.details.encode()).digest()
        if found != row.details_digest:
            return False
    return row_hash(row) == row.hash


class AuditChain:
    """Takes rows in their order and says in the end what is wrong with them.

    `since`: where to begin, a head that was checked before. `heads`: what the service has told somebody; rows that are
    not there, or not so, were taken out or rewritten.
    """

    def __init__(self, since: AuditHead | None = None, heads: Sequence[AuditHead] = ()) -> None:
        self.faults: list[tuple[int, AuditFault]] = []
        self.last = BEFORE_ALL
        self.rows = self.erased = 0
        self._since = since
        self._heads = {head for head in (*heads, *([since] if since else [])) if head != BEFORE_ALL}
        self._purged: AuditHead | None = None
        self._emptied: set[int] = set()

    def add(self, row: AuditRow) -> None:
        self._follow(row)
        if not is_genuine(row):
            self._blame(row.seq, AuditFault.CHANGED)
        if row.details is None:
            self._emptied.add(row.seq)
            self.erased += 1
        else:
            self._take_account(row, row.details)
        self._compare(AuditHead(row.seq, row.hash))
        self.rows += 1

    def end(self) -> list[tuple[int, AuditFault]]:
        """Row and fault, in the rows' order."""
        for head in self._heads:
            self._blame(head.seq, AuditFault.MISSING)
        for seq in self._emptied:
            self._blame(seq, AuditFault.EMPTIED)
        if self._purged:
            self._blame(self._purged.seq, AuditFault.MISSING)
        return sorted(set(self.faults))

    def _follow(self, row: AuditRow) -> None:
        if self.rows == 0 and (self._since or row.seq > 1):
            # where to begin is compared as a head; before that, only a purge may have taken rows
            self._purged = None if self._since else AuditHead(row.seq - 1, row.prev)
        elif row.seq <= self.last.seq:
            self._blame(row.seq, AuditFault.INSERTED)
        elif row.seq > self.last.seq + 1:
            self._blame(self.last.seq + 1, AuditFault.MISSING)
        elif row.prev != self.last.hash:
            self._blame(row.seq, AuditFault.UNCHAINED)

    def _take_account(self, row: AuditRow, details: str) -> None:
        """Of what a row says that was taken out: details by an erasure, the oldest rows by a purge."""
        if row.action == "erase":
            self._emptied -= set(json.loads(details)["emptied"])
        elif row.action == "purge_audit" and self._purged:
            told = json.loads(details)
            if self._purged == AuditHead(told["seq"], bytes.fromhex(told["hash"])):
                self._purged = None

    def _compare(self, present: AuditHead) -> None:
        told = {head for head in self._heads if head.seq == present.seq}
        if told - {present}:
            self._blame(present.seq, AuditFault.NOT_THE_HEAD)
        self._heads -= told
        self.last = present

    def _blame(self, seq: int, fault: AuditFault) -> None:
        self.faults.append((seq, fault))
