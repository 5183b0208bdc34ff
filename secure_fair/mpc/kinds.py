"""Kinds of frames that the parties and the dealer exchange; kinds below 16 belong to the transport itself.

This is the allow-list: a frame of any other kind, or of a size that the step's program does not give, ends the run.
"""

from __future__ import annotations

from enum import IntEnum


class Kind(IntEnum):
    # between any two parties, at the start
    HELLO = 16  # JSON: protocol version, what the run is, digests of what must agree; then the keyed digest of the ids
    # developer -> auditor
    STEP = 17  # announces a step: its number, and the positions (int32) of its records
    END = 18  # no more steps: the run is over
    # between developer and auditor, inside a step
    MASKED = 19  # masked values: uniform to the receiver
    OPEN = 20  # a share of a value that the receiver may know: the only kind that discloses anything
    # developer or auditor -> dealer
    PLAN = 21
    CREDIT = 22  # how many further steps the dealer may deal ahead
    REQUEST = 23  # a tuple for a CrypTen operation outside the plan
    # dealer -> developer or auditor
    SEED = 24
    CORRECTION = 25
    # between developer and auditor, for CrypTen's own collective operations
    COLLECTIVE = 26
    # developer -> auditor, once at the start
    RECORDS = 27  # positions (int32) of the records this run is about, in the agreed order of ids; of an audit: hashes
    # developer -> auditor, at the end of an audit whose policy asks for it
    REPORT = 28  # the result, as far as the developer's own policy lets the auditor see it
    # between developer and auditor, before a run whose parties intersect their ids
    ALIGN = 29  # a block of points: ids under the sender's key, or the receiver's ids under both keys
