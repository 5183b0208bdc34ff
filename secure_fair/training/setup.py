"""The developer's side of a run: images and a model that fits them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from secure_fair.data.images import ImageSet, TransformSpec, read_labels
from secure_fair.errors import SettingsError
from secure_fair.model.classifier import FairClassifier, build_classifier
from secure_fair.training.loop import Splits

if TYPE_CHECKING:
    from secure_fair.settings import Settings


def developer_side(settings: Settings) -> tuple[FairClassifier, Splits]:
    """Read `settings.data.root` and build the model for its classes. Raises SettingsError and DataError."""
    if settings.data.root is None:
        raise SettingsError("data.root is not set; name the developer's folder that `secure-fair data prepare` wrote")
    table = read_labels(settings.data.root)
    model = build_classifier(settings, len(table.classes))
    transform = TransformSpec.of(model.data_config, settings.data.image_size)
    return model, Splits(*(ImageSet(table, split, transform) for split in ("train", "val", "test")))
