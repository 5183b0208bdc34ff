"""Exceptions of secure-fair. Every message says what is wrong, where, and how to mend it.

SecureFairError
+-- SettingsError          a settings or policy file is wrong (file, key, nearest known key)
+-- DataError              an image, a label or an attribute table is wrong (file, row, value)
+-- TransportError         a channel cannot be made, or failed
|   +-- PeerLostError      the other side closed or died
|   +-- PeerStalledError   nothing arrived within the deadline
|   +-- FrameError         a frame of the wrong kind, size, order or version
|   +-- PeerRefusedError   the other side refused and said why
|       +-- PeerBusyError  it knows us, and serves somebody else now
+-- ProtocolError          the parties' plans, shapes or settings do not agree
|   +-- MaskReuseError     a mask was about to hide a second value
+-- RefusedError           the auditor's policy or ledger forbids the request
|   +-- BudgetError        somebody's privacy budget would be exceeded
+-- LedgerError            the ledger file is damaged, restored, or of another version
|   +-- LedgerBusyError    the ledger is locked, or its disk is full: nothing goes out now
+-- RunError               a run's folder is unusable (exists, incomplete, other version)
|   +-- CrashedRunError    a party was killed, or ended without saying why
+-- InterruptedRunError    the user, or a signal, stopped the run
"""

from __future__ import annotations

TOLD = "SECURE_FAIR_TOLD"  # names a file: a launcher wants a party's error there, and says each cause once


class SecureFairError(Exception):
    """Base of all errors that a user can mend; the command line prints it in one line and exits 1."""


class SettingsError(SecureFairError):
    """A settings or policy file, or an option that overrides it, is wrong."""


class DataError(SecureFairError):
    """An image, a label or an attribute table is wrong."""


class TransportError(SecureFairError):
    """A channel between two parties cannot be made, or failed."""


class PeerLostError(TransportError):
    """The other side closed the channel or died."""


class PeerStalledError(TransportError):
    """Nothing arrived from the other side within the deadline."""


class FrameError(TransportError):
    """A frame of the wrong kind, size, order or version arrived."""


class PeerRefusedError(TransportError):
    """The other side refused to go on and said why."""


class PeerBusyError(PeerRefusedError):
    """The other side knows us, and serves somebody else now."""


class ProtocolError(SecureFairError):
    """The parties' plans, shapes or settings do not agree."""


class MaskReuseError(ProtocolError):
    """A mask was about to hide a second value; the difference of the two would be public."""


class RefusedError(SecureFairError):
    """The auditor's policy or ledger forbids the request. Depends on ids and public facts only."""


class BudgetError(RefusedError):
    """The request would exceed somebody's privacy budget."""


class LedgerError(SecureFairError):
    """The ledger file is damaged, was restored from an older copy, or has another version."""


class LedgerBusyError(LedgerError):
    """The ledger could not be written now (locked by another process, a full disk), so nothing was released."""


class RunError(SecureFairError):
    """A run's folder is unusable: it exists already, is incomplete, or has another version."""


class CrashedRunError(RunError):
    """A party was killed, or ended without saying why: what it has left is all that tells."""


class InterruptedRunError(SecureFairError):
    """The user, or a signal, stopped the run."""
