"""The auditor with images of its own: trains a sensitive LoRA in its own process, for the releases that need one.

The one module of the auditor's that loads a model and reads images; the auditor's process imports it for such a release
only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from parties.adapters import pack
from parties.handshake import AgreedRun
from parties.links import Links
from secure_fair.data.images import TransformSpec
from secure_fair.data.own import OwnImages, read_own
from secure_fair.errors import SettingsError
from secure_fair.model import backbone
from secure_fair.model.lora import Factors
from secure_fair.mpc.kinds import Kind
from secure_fair.privacy.accountant import UNBOUNDED_COST
from secure_fair.privacy.ledger import request_digest
from secure_fair.training.unlearning import of_own
from secure_fair.transport.frames import Connection

if TYPE_CHECKING:
    from parties.audited import Audited


def trained(audited: Audited, run: AgreedRun) -> Factors:
    """The sensitive LoRA, from the auditor's own images; every person in them is debited before anything leaves."""
    settings, policy = audited.settings, audited.policy
    if settings.attributes.file is None:
        raise SettingsError("attributes.file is missing; the auditor's own images lie beside it")
    frozen = backbone.build(settings.model, settings.data.image_size)
    transform = TransformSpec.of(backbone.data_config(frozen), settings.data.image_size)
    folder = settings.attributes.file.parent
    own = read_own(folder, settings.attributes.columns, policy.categories, policy.person, transform)
    _debit(audited, run, own)
    audited.log("training the sensitive adapter on images of our own", images=len(own.images))
    return of_own(settings, own)


def _debit(audited: Audited, run: AgreedRun, own: OwnImages) -> None:
    ids = own.images.ids
    persons = [own.table.persons[row] for row in own.table.rows(ids)]
    public = {"release": run.hello.release, "nonce": run.hello.nonce, "ids": ids, "columns": audited.columns}
    request = request_digest(public)
    audited.ledger.reserve(run.hello.release, request, persons, UNBOUNDED_COST, audited.policy.budget)


def serve_adapter(audited: Audited, run: AgreedRun, developer: Connection, _links: Links) -> None:
    """Release `adapter`: the sensitive LoRA itself, which is nearly a predictor of the attributes. No guarantee."""
    factors = trained(audited, run)
    developer.send(Kind.OPEN, pack(factors))
    audited.log("sensitive adapter released")
    developer.receive(Kind.END, size=0)
