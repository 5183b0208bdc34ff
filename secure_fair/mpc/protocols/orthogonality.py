"""ORTH's gradient in sum scale, T (T^T H), opened to the developer ("parity"), or its sum over task classes ("odds").

Notation: H [n, d] rows of centred representation and 1, with 16 fractional bits, known to the developer; T [n, K]
one-hot attributes as integers, known to the auditor; Y [n, C] one-hot task labels, known to the developer. A hat marks
a masked value, [x] a sharing. All in Z_2^32 and exact: the only error is H's rounding, at most n_g 2^-17 an entry,
where n_g is the number of records (of the class) in a record's group. 32 bits are enough for |G| < 2^31; shares and
masks wrap by design. What is dealt and computed has 64 bits, of which the lower 32 are right and travel.

"parity":                                             "odds":
0. -                                                  0. dev -> aud: Y^
1. aud -> dev: T^                                     1. aud -> dev: T^, then [Q] = [Y (x) T] and Q_aud^
2. dev -> aud: H^;  now [M] = [H^T T]                 2. dev -> aud: H^;  now [M] = [H^T Q]
3. dev -> aud: M_dev^                                 3. dev -> aud: M_dev^, Q_dev^
4. aud -> dev: share of G = T [M]^T, opened           4. aud -> dev: M_aud^ and the share of G = [Q] [M]^T, opened

Steps 0 and 1 need no H: they run during the forward pass, so of the two rounds one is waited for.

Bytes: dev -> aud 4 (nd + dK) and 4 (nd + nC + dCK + nCK); aud -> dev 4 (nK + nd) and 4 (nK + nCK + dCK + nd).
The auditor sees uniform ring elements only. The developer learns G and nothing else; G alone names every attribute
(its rows are proportional to the group's moment), which is why the release `gradient` is labelled as leaking.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch

from secure_fair.errors import ProtocolError
from secure_fair.mpc.dealing.plan import OPERATIONS, Mask, Product, StepProgram
from secure_fair.mpc.dealing.source import StepRandomness
from secure_fair.mpc.engine.opening import open_words
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.engine.sharing import FRACTION_BITS
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols.product import auditor_share, developer_share

OPENED = "orthogonality gradient, sum scale"
LARGEST = 1 << (31 - FRACTION_BITS - 1)  # records times attributes


@dataclass(frozen=True)
class OrthogonalityShape:
    """Records n, width d, attribute columns K and task classes C; C = 0 means "parity"."""

    n: int
    d: int
    k: int
    classes: int = 0

    def __post_init__(self) -> None:
        attributes = max(self.k // 2, 1)  # at most: each has two columns or more
        if attributes * self.n >= LARGEST:  # a centred row's entries are below 2
            raise ProtocolError(
                f"a step of {self.n} records and {attributes} attributes does not fit 32 bits; "
                f"lower training.batch_size below {LARGEST // attributes}"
            )

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
            _send(party, self._step.mask("y").hide(y))

    def send(self, h: torch.Tensor) -> Self:
        """h: int64 [n, d]."""
        self._h = h
        _send(self._party, self._step.mask("h").hide(h))
        return self

    def finish(self) -> torch.Tensor:
        """G, int64 [n, d] with 16 fractional bits."""
        share = self._parity_share() if self._shape.classes == 0 else self._odds_share()
        opened = open_words(self._party, OPENED, _word(share), FRACTION_BITS)
        assert opened is not None  # noqa: S101 (we are the developer)
        return opened.long()

    def _parity_share(self) -> torch.Tensor:
        step, shape = self._step, self._shape
        (t_masked,) = _receive(self._party, (shape.n, shape.k))
        m = developer_share(step, "moment", t_masked)  # [d, K]
        _send(self._party, step.mask("m").hide(m))
        return developer_share(step, "gradient", t_masked)  # [n, d]

    def _odds_share(self) -> torch.Tensor:
        step, shape = self._step, self._shape
        t_masked, q_masked = _receive(self._party, (shape.n, shape.k), (shape.n, shape.joint))
        q = developer_share(step, "joint", t_masked)  # [n, CK]
        m = OPERATIONS["transposed_left"](self._h, q) + developer_share(step, "moment", q_masked)  # [d, CK]
        _send(self._party, step.mask("m").hide(m), step.mask("q").hide(q))
        own = q @ m.T + developer_share(step, "gradient m q'", q_masked)  # [n, d], while the auditor computes
        (m_masked,) = _receive(self._party, (shape.d, shape.joint))
        return own + developer_share(step, "gradient q m'", m_masked)


def auditor_step(party: Party, shape: OrthogonalityShape, t: torch.Tensor) -> None:
    """The auditor's side of one step; t: int64 one-hot [n, K]."""
    step = party.source.next(shape.program().name)
    share = _auditor_parity(party, step, shape, t) if shape.classes == 0 else _auditor_odds(party, step, shape, t)
    open_words(party, OPENED, _word(share))


def _word(values: torch.Tensor) -> torch.Tensor:
    """Modulo 2^32."""
    return values.to(torch.int32)


def _send(party: Party, *masked: torch.Tensor) -> None:
    party.send(Kind.MASKED, *map(_word, masked))


def _receive(party: Party, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    return [part.long() for part in party.receive(Kind.MASKED, *shapes, dtype=torch.int32)]


def _auditor_parity(party: Party, step: StepRandomness, shape: OrthogonalityShape, t: torch.Tensor) -> torch.Tensor:
    _send(party, step.mask("t").hide(t))
    (h_masked,) = _receive(party, (shape.n, shape.d))
    m = auditor_share(step, "moment", h_masked, t)  # [d, K]
    own = t @ m.T  # [n, d]
    (m_masked,) = _receive(party, (shape.d, shape.k))
    return own + auditor_share(step, "gradient", m_masked, t)


def _auditor_odds(party: Party, step: StepRandomness, shape: OrthogonalityShape, t: torch.Tensor) -> torch.Tensor:
    (y_masked,) = _receive(party, (shape.n, shape.classes))
    q = auditor_share(step, "joint", y_masked, t)  # [n, CK]
    _send(party, step.mask("t").hide(t), step.mask("q'").hide(q))
    (h_masked,) = _receive(party, (shape.n, shape.d))
    m = auditor_share(step, "moment", h_masked, q)  # [d, CK]
    own = q @ m.T  # [n, d]
    m_masked, q_masked = _receive(party, (shape.d, shape.joint), (shape.n, shape.joint))
    _send(party, step.mask("m'").hide(m))
    return own + auditor_share(step, "gradient m q'", m_masked, q) + auditor_share(step, "gradient q m'", q_masked, m)
