"""The auditor with images of its own: trains a sensitive LoRA in its own process, for the releases that need one.

The one module of the auditor's that loads a model and reads images; the auditor's process imports it for such a release
only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetensors.torch import save_file

from parties.adapters import pack
from parties.handshake import AgreedRun
from parties.links import Links
from parties.messages import decode_step, step_size
from parties.schedule import steps_per_epoch
from secure_fair.data.images import TransformSpec
from secure_fair.data.own import OwnImages, read_own
from secure_fair.errors import ProtocolError, SettingsError
from secure_fair.fairness.overlap import columns
from secure_fair.files import replacing
from secure_fair.model import backbone
from secure_fair.model.classifier import FairClassifier
from secure_fair.model.lora import SENSITIVE, Factors
from secure_fair.mpc.dealing.plan import Plan
from secure_fair.mpc.dealing.source import CorrelationSource
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols.overlap import OverlapShape, auditor_step
from secure_fair.privacy.accountant import UNBOUNDED_COST
from secure_fair.privacy.ledger import request_digest
from secure_fair.training.sensitive import of_own
from secure_fair.transport.frames import Connection

if TYPE_CHECKING:
    from parties.audited import Audited


def trained(audited: Audited, run: AgreedRun) -> FairClassifier:
    """The sensitive LoRA and its head, from our own images; every person in them is debited before anything leaves."""
    settings, policy = audited.settings, audited.policy
    if settings.attributes.file is None:
        raise SettingsError("attributes.file is missing; the auditor's own images lie beside it")
    frozen = backbone.build(settings.model, settings.data.image_size)
    transform = TransformSpec.of(backbone.data_config(frozen), settings.data.image_size)
    folder = settings.attributes.file.parent
    own = read_own(folder, settings.attributes.columns, policy.categories, policy.person, transform)
    _debit(audited, run, own)
    audited.log("training the sensitive adapter on images of our own", images=len(own.images))
    model = of_own(settings, own)
    with replacing(audited.checkpoints.parent / SENSITIVE) as partial:
        partial.touch(mode=0o600)
        save_file({name: value.contiguous() for name, value in model.predictor().items()}, partial)
    return model


def _debit(audited: Audited, run: AgreedRun, own: OwnImages) -> None:
    ids = own.images.ids
    persons = [own.table.persons[row] for row in own.table.rows(ids)]
    public = {"release": run.hello.release, "nonce": run.hello.nonce, "ids": ids, "columns": audited.columns}
    request = request_digest(public)
    audited.ledger.reserve(run.hello.release, request, persons, UNBOUNDED_COST, audited.policy.budget)


def serve_adapter(audited: Audited, run: AgreedRun, developer: Connection, _links: Links) -> None:
    """Release `adapter`: the sensitive LoRA itself, which is nearly a predictor of the attributes. No guarantee."""
    _send(audited, developer, trained(audited, run).factors())


def serve_predictor(audited: Audited, run: AgreedRun, developer: Connection, _links: Links) -> None:
    """Release `predictor`: the sensitive LoRA with its head, which names the attributes of anybody. No guarantee."""
    _send(audited, developer, trained(audited, run).predictor())


def _send(audited: Audited, developer: Connection, trained: Factors) -> None:
    developer.send(Kind.OPEN, pack(trained))
    audited.log("sensitive adapter released", numbers=sum(value.numel() for value in trained.values()))
    developer.receive(Kind.END, size=0)


def serve_overlap(audited: Audited, run: AgreedRun, developer: Connection, links: Links) -> None:
    """Release `adapter-gradient`: steps of ORTH-ADAPTER. One exact gradient gives the row space: no guarantee."""
    hello = run.hello
    dealer = links.connect("dealer")  # before a training that may take longer than it waits for us
    other = columns(trained(audited, run).factors(), audited.settings.fairness.factors)
    shape = OverlapShape.of(other, audited.settings.lora.rank)
    steps = hello.epochs * steps_per_epoch(hello)
    source = CorrelationSource("auditor", dealer, Plan(((shape.program(), steps),)))
    party = Party("auditor", developer, source)
    for step in range(steps):
        links.where = f"step {step + 1} of {steps}"
        announced, _ = decode_step(developer.receive(Kind.STEP, size=step_size(0)))
        if announced != step:
            raise ProtocolError(f"the developer announced step {announced} where {step} follows")
        auditor_step(party, shape, other)
    source.close()
    developer.receive(Kind.END, size=0)
