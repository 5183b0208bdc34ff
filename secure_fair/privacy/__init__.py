"""Accounting, ledger and policy: the auditor's rules."""
