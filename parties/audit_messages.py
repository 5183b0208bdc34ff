"""What developer and auditor say to each other before an audit; public facts only.

1. dev -> aud HELLO    AuditHello        what is asked for
2. aud -> dev HELLO    AuditTerms        what the policy says, and the categories
3. dev -> aud RECORDS  a keyed hash of each record's id, 8 bytes, in the order of the rows that follow
4. aud -> dev HELLO    AuditAccepted     the most records of one person
5. dev <> aud MASKED   the product of protocols/counts.py, unless a stored answer follows
6. aud -> dev HELLO    AuditDebited      the commitment to the table, when everybody has been debited
7. dev -> aud OPEN     in an exact audit: the counts under the developer's noise
8. aud -> dev HELLO    in an exact audit: which counts are open
9. aud -> dev OPEN     the counts

The commitment comes after the debit, since it says exactly whether the table has changed; and before anything is
opened to the auditor, since that is what it binds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from parties.messages import MAX_TEXT, Message
from secure_fair.audit.layout import Layout
from secure_fair.errors import RefusedError, SettingsError
from secure_fair.settings import Settings

HASH_BYTES = 8
NOISED, EXACT = "noised", "exact"
OPENED = "audit counts"
MAX_TERMS_BYTES = 1 << 20


@dataclass(frozen=True)
class AuditHello(Message):
    """The audit that the developer asks for."""

    protocol: int
    nonce: str
    settings: str  # digest of the settings that must agree
    records: int
    classes: int
    bins: int
    bits: int
    predictions: str  # salted digest of the table
    earlier: str  # session whose answer got lost: asked for again, at no cost; empty for none

    @property
    def layout(self) -> Layout:
        """Raises RefusedError for numbers that make no sense."""
        return Layout(self.classes, self.bins, self.bits)


@dataclass(frozen=True)
class AuditTerms(Message):
    """What the auditor's policy makes of it."""

    protocol: int
    nonce: str
    mode: str
    smallest: int  # counts below are not shown
    to_both: bool  # the auditor wants the result too
    groups: tuple[int, ...]  # K of each attribute or intersection
    names: tuple[str, ...]  # of all groups, attribute by attribute

    def require_size(self) -> None:
        """Raise RefusedError for names that a developer would not take."""
        size, longest = len(self.encode()), max(map(len, self.names))
        if size > MAX_TERMS_BYTES or longest > MAX_TEXT:
            raise RefusedError(
                f"the names of the {len(self.names)} groups take {size} bytes, and the longest {longest} characters: "
                f"at most {MAX_TERMS_BYTES} and {MAX_TEXT}; shorten the policy's categories, or audit fewer attributes"
            )


@dataclass(frozen=True)
class AuditAccepted(Message):
    """The auditor has found all records, and its ledger allows the audit."""

    protocol: int
    per_person: int
    stored: bool  # the answer of `earlier` follows at once


@dataclass(frozen=True)
class AuditDebited(Message):
    """The people have been debited, and the auditor is bound to its table."""

    protocol: int
    commitment: str


def require_list(settings: Settings) -> None:
    """Raise SettingsError where ids are to be intersected: an audit is of records that both have agreed on before."""
    if settings.attributes.alignment != "list":
        raise SettingsError('attributes.alignment: an audit is of records that both tables have; set it to "list"')


def id_key(developer_nonce: str, auditor_nonce: str) -> bytes:
    """Key of the hashes of ids in one session."""
    return hashlib.sha256((developer_nonce + auditor_nonce).encode()).digest()
