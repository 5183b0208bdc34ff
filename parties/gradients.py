"""The auditor's side of the release `gradient`: a step at a time, continued from a checkpoint after an interruption."""

from __future__ import annotations

import numpy as np
import torch

from parties.audited import Audited
from parties.continuation import AuditorCheckpoints
from parties.handshake import AgreedRun
from parties.links import Links
from parties.messages import decode_step, encode_count, step_size
from parties.schedule import batch_sizes, steps_per_epoch, training_plan
from secure_fair import checkpoint
from secure_fair.errors import ProtocolError, RefusedError
from secure_fair.fairness import methods
from secure_fair.mpc.dealing.source import CorrelationSource
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.engine.randomness import RingGenerator, fresh_seed
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.terms import PublicShape, SecureMethod
from secure_fair.privacy.accountant import UNBOUNDED_COST
from secure_fair.privacy.ledger import request_digest
from secure_fair.settings import Settings
from secure_fair.transport.frames import Connection


def serve_gradient(audited: Audited, run: AgreedRun, developer: Connection, links: Links) -> None:
    """Steps of ORTH or ADV whose exact gradient is opened: no guarantee, recorded as unbounded for everybody.

    1. aud -> dev: the step to start from, and a fresh seed that re-randomises the shares of a continued run
    2. the steps from there on; both keep a checkpoint after the same ones
    """
    hello = run.hello
    secure: SecureMethod = methods.factory(methods.get(hello.method).secure[hello.release])()
    settings = _with_seed(audited.settings, hello.seed)
    public = PublicShape(hello.width, hello.classes, audited.groups())
    program = secure.auditor(settings, public)
    checkpoints = AuditorCheckpoints(audited.checkpoints, run, audited.ids)
    start, state = checkpoints.share(hello.steps)
    seed = fresh_seed()
    developer.send(Kind.HELLO, encode_count(start), seed)
    if start:
        program.restore(state)
        program.rerandomise(RingGenerator(seed))
        audited.log("resumed", step=start)
    source = CorrelationSource(
        "auditor", links.connect("dealer"), training_plan(secure, settings, public, hello, start)
    )
    party = Party("auditor", developer, source)
    allowed = np.zeros(len(audited.ids), dtype=bool)
    allowed[run.train] = True
    ids = [audited.ids[position] for position in run.train]
    request = request_digest({"release": "gradient", "session": source.session, "ids": ids, "columns": audited.columns})
    budget = audited.policy.budget
    audited.ledger.reserve("gradient", request, audited.persons(ids), UNBOUNDED_COST, budget)
    onehot = torch.from_numpy(np.concatenate(audited.one_hots(audited.ids), axis=1))
    epoch = steps_per_epoch(hello)
    for step, n in batch_sizes(hello, start):
        links.where = f"step {step + 1} of {hello.epochs * epoch}"
        announced, positions = decode_step(developer.receive(Kind.STEP, size=step_size(n)))
        _check_step(step, announced, positions, allowed)
        program.step(party, onehot[positions])
        if checkpoint.due(step + 1, hello.checkpoint_steps, epoch):
            checkpoints.save(step + 1, program.state())
    source.close()
    developer.receive(Kind.END, size=0)
    checkpoints.remove()


def _check_step(step: int, announced: int, positions: np.ndarray, allowed: np.ndarray) -> None:
    if announced != step:
        raise ProtocolError(f"the developer announced step {announced} where {step} follows")
    if (positions < 0).any() or (positions >= len(allowed)).any() or not allowed[positions].all():
        raise RefusedError(f"step {step} names a record outside the set fixed for this run; leave it out")
    if len(np.unique(positions)) < len(positions):
        raise RefusedError(f"step {step} names a record twice; send each id once")


def _with_seed(settings: Settings, seed: int) -> Settings:
    return settings.model_copy(update={"training": settings.training.model_copy(update={"seed": seed})})
