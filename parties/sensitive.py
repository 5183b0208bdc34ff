"""The auditor with images of its own: trains a sensitive LoRA in its own process, for the releases that need one.

The one module of the auditor's that loads a model and reads images; the auditor's process imports it for such a release
only. There is no guarantee, unless the auditor's settings say sensitive.private: then what is trained is differentially
private already, and so is whatever the developer is shown of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file

from parties.adapters import pack, unpack
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
from secure_fair.model.classifier import build_classifier, without_head
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


def trained(audited: Audited, run: AgreedRun) -> Factors:
    """The sensitive LoRA and its head, from our own images; every person in them is debited before anything leaves."""
    settings, policy = audited.settings, audited.policy
    if settings.attributes.file is None:
        raise SettingsError("attributes.file is missing; the auditor's own images lie beside it")
    frozen = backbone.build(settings.model, settings.data.image_size)
    transform = TransformSpec.of(backbone.data_config(frozen), settings.data.image_size)
    folder = settings.attributes.file.parent
    own = read_own(folder, settings.attributes.columns, policy.categories, policy.person, transform)
    model = build_classifier(settings, sum(audited.groups()))
    found = unpack(_answer(audited, run, own), model.predictor())
    with replacing(audited.checkpoints.parent / SENSITIVE) as partial:
        partial.touch(mode=0o600)
        save_file({name: value.contiguous() for name, value in found.items()}, partial)
    return found


def _answer(audited: Audited, run: AgreedRun, own: OwnImages) -> bytes:
    """Debited, then trained. Under DP stored, too: the same request, for any of the three releases, gets it again."""
    settings, ledger, budget = audited.settings, audited.ledger, audited.policy.budget
    release = run.hello.release
    public: dict[str, Any] = {"ids": own.images.ids, "columns": audited.categories()}

    def produce() -> bytes:
        audited.log("training the sensitive adapter on images of our own", images=len(own.images))
        return pack(of_own(settings, own).predictor())

    if not settings.sensitive.private:
        request = request_digest(public | {"release": release, "nonce": run.hello.nonce})
        ledger.reserve(release, request, own.persons, UNBOUNDED_COST, budget)
        return produce()
    from secure_fair.training.private import run_cost  # needs Opacus, and says so: before anybody is debited

    sections = ("data", "model", "lora", "training", "privacy", "sensitive")
    request = request_digest(public | {"trained": settings.model_dump(mode="json", include=set(sections))})
    return ledger.answer(release, request, own.persons, run_cost(settings), budget, produce)


def serve_adapter(audited: Audited, run: AgreedRun, developer: Connection, _links: Links) -> None:
    """Release `adapter`: the sensitive LoRA itself, which is nearly a predictor of the attributes."""
    _send(audited, developer, without_head(trained(audited, run)))


def serve_predictor(audited: Audited, run: AgreedRun, developer: Connection, _links: Links) -> None:
    """Release `predictor`: the sensitive LoRA with its head, which names the attributes of anybody."""
    _send(audited, developer, trained(audited, run))


def _send(audited: Audited, developer: Connection, trained: Factors) -> None:
    developer.send(Kind.OPEN, pack(trained))
    audited.log("sensitive adapter released", numbers=sum(value.numel() for value in trained.values()))
    developer.receive(Kind.END, size=0)


def serve_overlap(audited: Audited, run: AgreedRun, developer: Connection, links: Links) -> None:
    """Release `adapter-gradient`: steps of ORTH-ADAPTER. One exact gradient gives the row space."""
    hello = run.hello
    dealer = links.connect("dealer")  # before a training that may take longer than it waits for us
    other = columns(without_head(trained(audited, run)), audited.settings.fairness.factors)
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
