"""What a training loop of the user's own tells of itself before it starts; light, so that the API loads quickly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from secure_fair.errors import SettingsError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor


@dataclass(frozen=True)
class TrainingPlan:
    """Records, model and steps of a loop.

    ids: of the training records; a record's index in it is what the loop names it by. labels: int64 [N], 0 to classes -
    1. width: d of the representation. batch_size, epochs: every epoch uses each record once, in batches of batch_size
    and a last one that may be shorter. features [N, D]: a fixed vector of each record, which the private releases are
    about. other_ids: records that the auditor's table has too, and that are not trained on. Raises SettingsError.
    """

    ids: Sequence[str]
    labels: Tensor
    classes: int
    width: int
    batch_size: int
    epochs: int
    features: npt.NDArray[np.floating[Any]] | None = None
    other_ids: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuse a plan that contradicts itself."""
        count = len(self.ids)
        if len(set(self.ids)) < count or set(self.ids) & set(self.other_ids):
            raise SettingsError("ids: a record is named twice; name each once, in ids or in other_ids")
        if not count or tuple(self.labels.shape) != (count,):
            raise SettingsError(f"labels have shape {tuple(self.labels.shape)} for {count} ids; give one label an id")
        if int(self.labels.min()) < 0 or int(self.labels.max()) >= self.classes:
            raise SettingsError(f"labels must be 0 to {self.classes - 1}; check `classes`")
        if self.features is not None and (self.features.ndim != 2 or len(self.features) != count):
            raise SettingsError(f"features have shape {self.features.shape} for {count} ids; give one row an id")
        if min(self.width, self.batch_size, self.epochs) < 1:
            raise SettingsError("width, batch_size and epochs must be at least 1")

    @cached_property
    def sizes(self) -> list[int]:
        """Records of each step, in order: the dealer deals for these, so they are fixed before."""
        full, rest = divmod(len(self.ids), self.batch_size)
        return ([self.batch_size] * full + [rest] * (rest > 0)) * self.epochs
