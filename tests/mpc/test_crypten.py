"""Any CrypTen operation runs on our channel, dealer and keystreams, in three real processes."""

from __future__ import annotations

import sys
import unittest.mock
from typing import Any

import pytest
import torch
from packaging.version import Version
from torch.distributed import ReduceOp

from secure_fair.errors import ProtocolError
from secure_fair.fairness import objectives
from secure_fair.mpc.dealing.plan import Plan
from secure_fair.mpc.engine import compat, runtime
from secure_fair.mpc.engine.communicator import ChannelCommunicator
from secure_fair.mpc.engine.compat import crypten
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.engine.sharing import encode, from_share
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols.orthogonality import OrthogonalityShape
from secure_fair.mpc.protocols.product import auditor_share, developer_share
from tests.mpc import three_processes
from tests.mpc.three_threads import Network

pytestmark = pytest.mark.timeout(400)  # three processes start from nothing, maybe on a busy machine
SHAPE = OrthogonalityShape(n=20, d=8, k=2)
UNIT = 2.0**-16  # CrypTen's fixed point
# |result - true| allowed: rounding of the inputs and of the result where CrypTen computes, its own series elsewhere.
TOLERANCES = {
    "product": 3 * UNIT,
    "matmul": 8 * 8 * UNIT + 2 * UNIT,  # 8 terms, |x| + |y| < 8
    "comparison": 0.0,
    "convolution": 2 * UNIT,
    "sigmoid": 3e-3,
    "log": 2e-2,
    "moment": 0.0,
}


def _refused(*_: Any, **__: Any) -> Any:
    raise AssertionError("a mask was drawn outside of our keystreams")


def _message(action: Any) -> str:
    try:
        action()
    except (ProtocolError, RuntimeError) as error:
        return str(error)
    return "not refused"


def crypten_session(party: Party) -> dict[str, Any]:
    """A party's body: operations, their errors, and what is refused."""
    torch.manual_seed(0)
    x, y = torch.randn(20, 8).clamp(-4, 4), torch.randn(8, 3).clamp(-4, 4)
    u = objectives.centre(objectives.normalise(torch.randn(SHAPE.n, SHAPE.d, dtype=torch.float64)), None)
    onehot = torch.nn.functional.one_hot(torch.randint(0, SHAPE.k, (SHAPE.n,)), SHAPE.k)
    image, kernel = torch.ones(1, 1, 5, 5), torch.ones(1, 1, 3, 3)
    results: dict[str, Any] = {"before": _message(lambda: crypten.cryptensor(x))}
    had_stub = sys.modules.pop("torch.onnx.symbolic_registry", None) is not None
    results["stub"] = (had_stub, compat.needs_stub())
    draws: dict[str, Any] = dict.fromkeys(
        ("randint", "rand", "randn", "randperm", "normal", "bernoulli", "Generator", "manual_seed"), _refused
    )
    seeds = three_processes.seeds(party.role)
    with (
        unittest.mock.patch.object(runtime, "fresh_seed", seeds),
        runtime.install(party),
        unittest.mock.patch.multiple(torch, **draws),
    ):
        results["twice"] = _message(lambda: runtime.install(party).__enter__())
        secret_x, secret_y = crypten.cryptensor(x, src=0), crypten.cryptensor(y, src=1)
        secure = {
            "product": (secret_x * 2.5, x * 2.5),
            "matmul": (secret_x @ secret_y, x @ y),
            "comparison": (secret_x > 0, (x > 0).float()),
            "convolution": (
                crypten.cryptensor(image, src=0).conv2d(crypten.cryptensor(kernel, src=1), padding=1),
                torch.nn.functional.conv2d(image, kernel, padding=1),
            ),
            "sigmoid": (secret_x.sigmoid(), x.sigmoid()),
            "log": ((secret_x.square() + 1).log(), (x.square() + 1).log()),
        }
        results["errors"] = {name: float((s.get_plain_text() - p).abs().max()) for name, (s, p) in secure.items()}
        results["errors"]["moment"] = _objective_of_the_shared_moment(party, u, onehot)
        results["collectives"] = _collectives(party.rank)
        for provider in ("TFP", "TTP", "mine"):
            with unittest.mock.patch.object(crypten.cfg.mpc, "provider", provider):
                results[provider] = _message(lambda: secret_x * secret_x)
        results["pickled"] = _message(lambda: crypten.cryptensor(x, src=0, broadcast_size=True))
    results["after"] = _message(lambda: crypten.cryptensor(x))
    return results


def _objective_of_the_shared_moment(party: Party, u: torch.Tensor, onehot: torch.Tensor) -> float:
    """Our share of the moment H^T T goes on as a CrypTen tensor: its squared norm is the paper's ORTH objective."""
    h, step = encode(u), party.source.next(SHAPE.program().name)
    if party.is_developer:
        party.send(Kind.MASKED, step.mask("h").hide(h))
        share = developer_share(step, "moment", party.receive(Kind.MASKED, onehot.shape)[0])
    else:
        party.send(Kind.MASKED, step.mask("t").hide(onehot))
        share = auditor_share(step, "moment", party.receive(Kind.MASKED, h.shape)[0], onehot)
    opened = from_share(share).square().sum().get_plain_text()
    value = float(opened) * 2.0**-32 / SHAPE.n**2
    true = float((h.double().T @ onehot.double() * UNIT / SHAPE.n).square().sum())
    return max(0.0, abs(value - true) - 1e-15)


def _collectives(rank: int) -> list[bool]:
    channel = ChannelCommunicator.get()
    mine, other = torch.tensor([rank + 1, 10]), torch.tensor([2 - rank, 10])
    gathered = channel.all_gather(mine)
    first = channel.gather(mine, dst=1)
    added = channel.reduce(mine, dst=0)
    each = channel.reduce([mine, mine], dst=1, op=ReduceOp.BXOR, batched=True)
    channel.barrier()
    return [
        torch.equal(channel.all_reduce(mine), mine + other),
        torch.equal(channel.all_reduce([mine, mine[0]], batched=True)[1], (mine + other)[0]),
        torch.equal(gathered[rank], mine) and torch.equal(gathered[1 - rank], other),
        [part is None for part in first] == ([True] if rank == 0 else [False, False]),
        (added is None) if rank else torch.equal(added, mine + other),
        torch.equal(each[1], mine ^ other) if rank else each is None,
        torch.equal(channel.broadcast(mine, src=1), mine if rank else other),
        "which two shares do not need" in _message(lambda: channel.all_reduce(mine, op=ReduceOp.MAX)),
    ]


@pytest.fixture(scope="module")
def session(network: Network) -> dict[str, Any]:
    return three_processes.run(network, Plan(((SHAPE.program(), 1),)), crypten_session)


@pytest.mark.parametrize("operation", TOLERANCES)
def test_operations_are_right(session: dict[str, Any], operation: str) -> None:
    for role in ("developer", "auditor"):
        assert session[role]["errors"][operation] <= TOLERANCES[operation]
    assert session["developer"]["errors"] == session["auditor"]["errors"]


def test_collectives(session: dict[str, Any]) -> None:
    assert all(session["developer"]["collectives"])
    assert all(session["auditor"]["collectives"])


@pytest.mark.parametrize("role", ["developer", "auditor"])
@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("before", "not initialized"),
        ("after", "not initialized"),
        ("twice", "this process is a party already"),
        ("TFP", "party 0, the developer, makes the triples and so knows every mask; use the dealer process"),
        ("TTP", "Mersenne Twister"),
        ("mine", "provider mine is refused"),
        ("pickled", "would pickle an object"),
    ],
)
def test_refusals_say_why(session: dict[str, Any], role: str, what: str, why: str) -> None:
    assert why in session[role][what]


def test_the_dealer_loads_neither_crypten_nor_models(session: dict[str, Any]) -> None:
    """Its process has started from nothing and has served a session."""
    loaded = set(session["dealer"])
    assert "secure_fair.mpc.dealing.server" in loaded
    assert not {"crypten", "timm", "peft", "torchvision", "secure_fair.mpc.engine.compat"} & loaded


def test_torch_2_9_and_later_need_the_stub(session: dict[str, Any]) -> None:
    """Up to 2.8 `torch.onnx._internal.registration` was there; every version that we support (2.11 on) needs it."""
    needed = Version(torch.__version__) >= Version("2.9")
    assert session["developer"]["stub"] == (needed, needed)
    assert crypten.__version__ == "0.4.1"
