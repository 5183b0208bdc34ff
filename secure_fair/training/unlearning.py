"""UNL: a LoRA that predicts the attribute is subtracted from the backbone before the task's own LoRA is trained.

Task arithmetic (Ilharco et al. 2023) on LoRA, as in arXiv 2503.05684. Who trains the sensitive LoRA, and on what, is
the setting: the auditor on images of its own, or the developer on its own images with soft attributes from a release.
"""

from __future__ import annotations

from secure_fair.errors import SettingsError
from secure_fair.fairness.terms import Context, FairnessTerm, NoTerm
from secure_fair.training.sensitive import of_own, train_sensitive


def plain_unlearning(context: Context) -> FairnessTerm:
    """UNL: changes the model of `context` and adds nothing to the loss.

    With images of the auditor's own the sensitive LoRA is trained on them, else on the training images with the
    attributes in `context`, which may be soft.
    """
    model, settings = context.model, context.settings
    if model is None:
        raise SettingsError("method `unl` changes a model; it cannot be used as a loss on representations alone")
    if model.unlearned:
        return Unlearned()  # a resumed run comes here again
    if context.own is not None:
        factors = of_own(settings, context.own).factors()
    elif context.images is not None:
        factors = train_sensitive(settings, context.images, context.attributes).factors()
    else:
        raise SettingsError("method `unl` needs training images")
    model.subtract(factors, context.weight)
    return Unlearned()


class Unlearned(NoTerm):
    """What training after a subtraction adds to the loss: nothing."""

    name = "unl"
