"""What is computed: operations with their inputs and their plaintext result in float64.

| op | developer's input | auditor's input | result, opened to the developer |
|---|---|---|---|
| adv | u [n, d+1] (last column 1) | t [n, 1] | (sigmoid(u w) - t) w^T without the bias, [n, d]; shared w is updated |
| orth-parity | h [n, d+1] (last column 1) | t [n, K] | t (t^T h), [n, d+1] |
| orth-odds | h [n, d+1], y [n, 2] | t [n, K] | q (q^T h), [n, d+1], q = rows of y times rows of t |
| product | h [n, d] | t [n, K] | h^T t, [d, K] |
| sigmoid | - | - | sigmoid of a shared x [n]; opened for the error, which is not measured |
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
CLASSES = 2
LOGIT_RANGE = 2 / 0.036  # what the smallest weight decay that the settings take allows (docs/protocols.md, section 1)


@dataclass(frozen=True)
class Case:
    """One operation at one size. k: groups of the attribute; rate, decay: of the adversary."""

    op: str
    n: int
    d: int = 0
    k: int = 0
    rate: float = 0.1
    decay: float = 0.05
    repetitions: int = 50
    seconds: float = 8.0  # a slow system stops repeating after these

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def floor_bytes(self) -> int | None:
        """Least bytes, both ways together, as in docs/protocols.md, section 4; None: no floor is claimed."""
        n, d, k = self.n, self.d, self.k
        floors = {
            "adv": 8 * (n * d + n * k) + 4 * n * d,
            "orth-parity": 4 * (2 * n * d + n * k + d * k),
            "orth-odds": 4 * (2 * n * d + n * k + d * k),
            "product": 8 * (n * d + n * k + d * k),
        }
        return floors.get(self.op)

    def inputs(self) -> dict[str, Floats]:
        """Arrays that every system gets; representations are multiples of 2^-16, so that no system rounds more."""
        drawn = np.random.default_rng([self.n, self.d, self.k])
        if self.op == "sigmoid":
            return {"x": np.linspace(-LOGIT_RANGE, LOGIT_RANGE, self.n)}
        group = drawn.integers(0, self.k, self.n)
        onehot = np.eye(self.k)[group]
        h = drawn.normal(size=(self.n, self.d))
        direction = drawn.normal(size=self.d)
        h += 0.2 * np.outer(2.0 * (group == 1) - 1, direction)  # the attribute shows, a little
        h = np.rint((h - h.mean(1, keepdims=True)) / h.std(1, keepdims=True) / np.sqrt(self.d) * 2**16) / 2**16
        u = np.hstack([h, np.ones((self.n, 1))])
        if self.op == "adv":
            w = np.append(direction, 0.1) * (8 / np.linalg.norm(direction))
            return {"u": u, "w": w[:, None], "t": onehot[:, 1:2]}
        if self.op == "product":
            return {"h": h, "t": onehot}
        classes = {"y": np.eye(CLASSES)[drawn.integers(0, CLASSES, self.n)]} if self.op == "orth-odds" else {}
        return {"h": u, "t": onehot, **classes}


def expected(op: str, inputs: dict[str, Floats]) -> Floats:
    """The result in float64."""
    if op == "sigmoid":
        return logistic(inputs["x"])
    if op == "adv":
        u, w, t = inputs["u"], inputs["w"], inputs["t"]
        return ((logistic(u @ w) - t) @ w.T)[:, :-1]
    h, t = inputs["h"], inputs["t"]
    if op == "product":
        return h.T @ t
    q = joint(inputs["y"], t) if op == "orth-odds" else t
    return q @ (q.T @ h)


def joint(y: Floats, t: Floats) -> Floats:
    """[n, C] and [n, K] -> [n, CK], each row the outer product of two rows."""
    return (y[:, :, None] * t[:, None, :]).reshape(len(y), -1)


def logistic(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def cases(repetitions: int = 50, seconds: float = 8.0) -> list[Case]:
    """What `bench primitives` runs."""
    sizes = [("adv", 64, 768, 2), ("orth-parity", 64, 768, 2), ("orth-odds", 64, 768, 2), ("product", 64, 768, 2)]
    sizes += [("sigmoid", n, 0, 0) for n in (64, 256, 1024, 4096)]
    return [Case(op, n, d, k, repetitions=repetitions, seconds=seconds) for op, n, d, k in sizes]
