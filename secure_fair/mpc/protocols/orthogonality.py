"""ORTH's gradient in sum scale, T (T^T H), opened to the developer ("parity"), or its sum over task classes ("odds").

Notation: H [n, d] rows of centred representation and 1, with 16 fractional bits, known to the developer; T [n, K]
one-hot attributes as integers, known to the auditor; Y [n, C] one-hot task labels, known to the developer. A hat marks
a masked value, [x] a sharing. All in Z_2^64 and exact: the only error is H's rounding, at most n_g 2^-17 an entry,
where n_g is the number of records (of the class) in a record's group.

"parity":                                             "odds":
0. -                                                  0. dev -> aud: Y^
1. aud -> dev: T^                                     1. aud -> dev: T^, then [Q] = [Y (x) T] and Q_aud^
2. dev -> aud: H^;  now [M] = [H^T T]                 2. dev -> aud: H^;  now [M] = [H^T Q]
3. dev -> aud: M_dev^                                 3. dev -> aud: M_dev^, Q_dev^
4. aud -> dev: share of G = T [M]^T, opened           4. aud -> dev: M_aud^ and the share of G = [Q] [M]^T, opened

Steps 0 and 1 need no H: they run during the forward pass, so of the two rounds one is waited for.

Bytes: dev -> aud 8 (nd + dK) and 8 (nd + nC + dCK + nCK); aud -> dev 8 (nK + nd) and 8 (nK + nCK + dCK + nd).
The auditor sees uniform ring elements only. The developer learns G and nothing else; G alone names every attribute
(its rows are proportional to the group's moment), which is why the release `gradient` is labelled as leaking.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch

from secure_fair.mpc.dealing.plan import OPERATIONS, Mask, Product, StepProgram
from secure_fair.mpc.dealing.source import StepRandomness
from secure_fair.mpc.engine.opening import open_to_developer
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.engine.sharing import FRACTION_BITS, from_share
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols.product import auditor_share, developer_share

OPENED = "orthogonality gradient, sum scale"


@dataclass(frozen=True)
class OrthogonalityShape:
    """Records n, width d, attribute columns K and task classes C; C = 0 means "parity"."""

    n: int
    d: int
    k: int
    classes: int = 0

    @property
    def joint(self) -> int:
        """Columns of Q."""
        return self.classes * self.k

    def program(self) -> StepProgram:
        """What the dealer deals for one step."""
        n, d, k, c, joint = self.n, self.d, self.k, self.classes, self.joint
        if c == 0:
            return StepProgram(
                name=f"orthogonality parity n={n} d={d} k={k}",
                masks={
                    "h": Mask("developer", (n, d)),
                    "m": Mask("developer", (d, k)),
                    "t": Mask("auditor", (n, k)),
                },
                products={
                    "moment": Product("h", "t", "transposed_left"),
                    "gradient": Product("m", "t", "swapped_transposed"),
                },
            )
        return StepProgram(
            name=f"orthogonality odds n={n} d={d} k={k} c={c}",
            masks={
                "h": Mask("developer", (n, d)),
                "y": Mask("developer", (n, c)),
                "m": Mask("developer", (d, joint)),
                "q": Mask("developer", (n, joint)),
                "t": Mask("auditor", (n, k)),
                "q'": Mask("auditor", (n, joint)),
                "m'": Mask("auditor", (d, joint)),
            },
            products={
                "joint": Product("y", "t", "rowwise_outer"),
                "moment": Product("h", "q'", "transposed_left"),
                "gradient m q'": Product("m", "q'", "swapped_transposed"),
                "gradient q m'": Product("q", "m'", "transposed_right"),
            },
        )


class DeveloperStep:
    """The developer's side: made before the forward pass, `send` after it, and `finish` waits for the opened gradient.

    Between each two the developer is free to compute.
    """

    def __init__(self, party: Party, shape: OrthogonalityShape, y: torch.Tensor | None) -> None:
        """y: int64 one-hot [n, C], or None for "parity"."""
        self._party, self._shape = party, shape
        self._step = party.source.next(shape.program().name)
        if y is not None:
            party.send(Kind.MASKED, self._step.mask("y").hide(y))

    def send(self, h: torch.Tensor) -> Self:
        """h: int64 [n, d]."""
        self._h = h
        self._party.send(Kind.MASKED, self._step.mask("h").hide(h))
        return self

    def finish(self) -> torch.Tensor:
        """G, int64 [n, d] with 16 fractional bits."""
        share = self._parity_share() if self._shape.classes == 0 else self._odds_share()
        opened = open_to_developer(self._party, OPENED, from_share(share), FRACTION_BITS)
        assert opened is not None  # noqa: S101 (we are the developer)
        return opened

    def _parity_share(self) -> torch.Tensor:
        step, shape = self._step, self._shape
        (t_masked,) = self._party.receive(Kind.MASKED, (shape.n, shape.k))
        m = developer_share(step, "moment", t_masked)  # [d, K]
        self._party.send(Kind.MASKED, step.mask("m").hide(m))
        return developer_share(step, "gradient", t_masked)  # [n, d]

    def _odds_share(self) -> torch.Tensor:
        step, shape = self._step, self._shape
        t_masked, q_masked = self._party.receive(Kind.MASKED, (shape.n, shape.k), (shape.n, shape.joint))
        q = developer_share(step, "joint", t_masked)  # [n, CK]
        m = OPERATIONS["transposed_left"](self._h, q) + developer_share(step, "moment", q_masked)  # [d, CK]
        self._party.send(Kind.MASKED, step.mask("m").hide(m), step.mask("q").hide(q))
        own = q @ m.T + developer_share(step, "gradient m q'", q_masked)  # [n, d], while the auditor computes
        (m_masked,) = self._party.receive(Kind.MASKED, (shape.d, shape.joint))
        return own + developer_share(step, "gradient q m'", m_masked)


def auditor_step(party: Party, shape: OrthogonalityShape, t: torch.Tensor) -> None:
    """The auditor's side of one step; t: int64 one-hot [n, K]."""
    step = party.source.next(shape.program().name)
    share = _auditor_parity(party, step, shape, t) if shape.classes == 0 else _auditor_odds(party, step, shape, t)
    open_to_developer(party, OPENED, from_share(share))


def _auditor_parity(party: Party, step: StepRandomness, shape: OrthogonalityShape, t: torch.Tensor) -> torch.Tensor:
    party.send(Kind.MASKED, step.mask("t").hide(t))
    (h_masked,) = party.receive(Kind.MASKED, (shape.n, shape.d))
    m = auditor_share(step, "moment", h_masked, t)  # [d, K]
    own = t @ m.T  # [n, d]
    (m_masked,) = party.receive(Kind.MASKED, (shape.d, shape.k))
    return own + auditor_share(step, "gradient", m_masked, t)


def _auditor_odds(party: Party, step: StepRandomness, shape: OrthogonalityShape, t: torch.Tensor) -> torch.Tensor:
    (y_masked,) = party.receive(Kind.MASKED, (shape.n, shape.classes))
    q = auditor_share(step, "joint", y_masked, t)  # [n, CK]
    party.send(Kind.MASKED, step.mask("t").hide(t), step.mask("q'").hide(q))
    (h_masked,) = party.receive(Kind.MASKED, (shape.n, shape.d))
    m = auditor_share(step, "moment", h_masked, q)  # [d, CK]
    own = q @ m.T  # [n, d]
    m_masked, q_masked = party.receive(Kind.MASKED, (shape.d, shape.joint), (shape.n, shape.joint))
    party.send(Kind.MASKED, step.mask("m'").hide(m))
    return own + auditor_share(step, "gradient m q'", m_masked, q) + auditor_share(step, "gradient q m'", q_masked, m)
