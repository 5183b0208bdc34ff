"""ORTH-ADAPTER in plaintext: the auditor's sensitive LoRA is trained in the same process, and held beside ours."""

from __future__ import annotations

from secure_fair.data.own import MEND
from secure_fair.errors import SettingsError
from secure_fair.fairness.overlap import PlainOverlap
from secure_fair.fairness.terms import Context, FairnessTerm
from secure_fair.training.sensitive import of_own


def plain_overlap(context: Context) -> FairnessTerm:
    """Raises SettingsError without images of the auditor's own."""
    if context.model is None or context.own is None:
        raise SettingsError(f"method `orth-adapter` needs images of the auditor's own beside attributes.csv; {MEND}")
    sensitive = of_own(context.settings, context.own).factors()
    return PlainOverlap(context.model.lora_parameters(), sensitive, context.settings.fairness.factors)
