"""What the dealer deals: step programs, and the plan of a session.

A step program names everything that one protocol step consumes: masks (who knows them, shape), products of a
developer's mask with an auditor's mask, sine tuples and truncation pairs. It holds shapes only, so the dealer and
the hash that both parties confirm learn nothing else.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch

from secure_fair.errors import ProtocolError

Shape = tuple[int, ...]
MAX_STEP_ELEMENTS = 2**27  # 1 GiB of ring elements: a plan beyond this is a mistake or an attack
MAX_STEPS = 2**31
MAX_COEFFICIENT = 2**16

# A product takes the developer's mask `left` and the auditor's mask `right`, both matrices.
OPERATIONS: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    # torch has no fast integer product: numpy's is up to eight times faster for few columns,
    "matmul": lambda left, right: torch.from_numpy(left.numpy() @ right.numpy()),
    # and left.T @ right up to seven times when it goes along the rows
    "transposed_left": lambda left, right: (right.T @ left).T,
    "transposed_right": lambda left, right: left @ right.T,
    "swapped_transposed": lambda left, right: right @ left.T,
    "rowwise_outer": lambda left, right: (left[:, :, None] * right[:, None, :]).reshape(left.shape[0], -1),
}
# Axes of left, of right and of the result, as einsum writes them; "jk" is one axis, j times k long.
_AXES = {
    "matmul": ("ij", "jk", ("i", "k")),
    "transposed_left": ("ij", "ik", ("j", "k")),
    "transposed_right": ("ij", "kj", ("i", "k")),
    "swapped_transposed": ("ij", "kj", ("k", "i")),
    "rowwise_outer": ("ij", "ik", ("i", "jk")),
}


@dataclass(frozen=True)
class Mask:
    """A uniform ring tensor that one party knows."""

    owner: Literal["developer", "auditor"]
    shape: Shape


@dataclass(frozen=True)
class Product:
    """A sharing of operation(left, right), left a developer's mask and right an auditor's."""

    left: str
    right: str
    operation: str


@dataclass(frozen=True)
class Sine:
    """A shared phase r in [0, 2^phase_bits) and sharings of c_k sin(k w r), c_k cos(k w r), k = 1..len(c)."""

    shape: Shape
    phase_bits: int
    value_bits: int
    coefficients: tuple[float, ...]


@dataclass(frozen=True)
class Truncation:
    """A shared uniform r with sharings of r >> shift (logical) and of its highest bit."""

    shape: Shape
    shift: int


@dataclass(frozen=True)
class Count:
    """A sharing of A^T B on the 32-bit ring; the developer knows A [rows, left], the auditor B [rows, right]."""

    rows: int
    left: int
    right: int


@dataclass(frozen=True)
class StepProgram:
    """The correlated randomness of one protocol step."""

    name: str
    masks: Mapping[str, Mask] = field(default_factory=dict)
    products: Mapping[str, Product] = field(default_factory=dict)
    sines: Mapping[str, Sine] = field(default_factory=dict)
    truncations: Mapping[str, Truncation] = field(default_factory=dict)
    counts: Mapping[str, Count] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> StepProgram:
        """Read what came over the wire; anything malformed is a ProtocolError."""
        try:
            program = StepProgram(
                name=str(value["name"]),
                masks={k: Mask(v["owner"], _shape(v["shape"])) for k, v in value["masks"].items()},
                products={k: Product(v["left"], v["right"], v["operation"]) for k, v in value["products"].items()},
                sines={
                    k: Sine(
                        _shape(v["shape"]),
                        whole(v["phase_bits"]),
                        whole(v["value_bits"]),
                        tuple(float(c) for c in v["coefficients"]),
                    )
                    for k, v in value["sines"].items()
                },
                truncations={
                    k: Truncation(_shape(v["shape"]), whole(v["shift"])) for k, v in value["truncations"].items()
                },
                counts={k: Count(*_shape((v["rows"], v["left"], v["right"]))) for k, v in value["counts"].items()},
            )
            program.validate()
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ProtocolError(f"malformed step program ({type(error).__name__}); update both parties") from None
        return program

    def validate(self) -> None:
        """Shapes, owners and operations make sense and stay below the size limit."""
        if any(mask.owner not in ("developer", "auditor") for mask in self.masks.values()):
            raise ValueError("a mask belongs to the developer or to the auditor")
        total = sum(math.prod(mask.shape) for mask in self.masks.values())
        for product in self.products.values():
            left, right = self.masks[product.left], self.masks[product.right]
            if left.owner != "developer" or right.owner != "auditor" or product.operation not in OPERATIONS:
                raise ValueError("a product multiplies a developer's mask with an auditor's")
            total += math.prod(product_shape(left.shape, right.shape, product.operation))
        for sine in self.sines.values():
            small = all(abs(c) <= MAX_COEFFICIENT for c in sine.coefficients)  # false for NaN too
            if not (1 <= sine.phase_bits <= 31 and 1 <= sine.value_bits <= 40 and sine.coefficients and small):
                raise ValueError("sine tuple out of range")
            total += math.prod(sine.shape) * 2 * len(sine.coefficients)
        for truncation in self.truncations.values():
            if not 1 <= truncation.shift <= 62:
                raise ValueError("shift out of range")
            total += math.prod(truncation.shape) * 2
        for count in self.counts.values():
            total += count.rows * (count.left + count.right) + count.left * count.right
        if total > MAX_STEP_ELEMENTS:
            raise ValueError("step program too large")


def product_shape(left: Shape, right: Shape, operation: str) -> Shape:
    """Shape of operation(left, right). Raises ValueError when they do not fit."""
    left_axes, right_axes, result = _AXES[operation]
    extents = dict(zip(left_axes, left, strict=True))
    if any(extents.setdefault(axis, extent) != extent for axis, extent in zip(right_axes, right, strict=True)):
        raise ValueError(f"shapes {left} and {right} do not fit {operation}")
    return tuple(math.prod(extents[axis] for axis in axes) for axes in result)


@dataclass(frozen=True)
class Plan:
    """A session's step programs in order, run-length encoded: ((program, repeats), ...)."""

    runs: tuple[tuple[StepProgram, int], ...]

    def __iter__(self) -> Iterator[StepProgram]:
        for program, repeats in self.runs:
            for _ in range(repeats):
                yield program

    def __len__(self) -> int:
        return sum(repeats for _, repeats in self.runs)

    def encode(self) -> bytes:
        """Canonical JSON; its SHA-256 is what both parties confirm."""
        rows = [{"program": program.to_json(), "repeats": repeats} for program, repeats in self.runs]
        return json.dumps(rows, sort_keys=True, separators=(",", ":")).encode()

    def digest(self) -> str:
        return hashlib.sha256(self.encode()).hexdigest()

    @staticmethod
    def decode(payload: bytes) -> Plan:
        try:
            rows = json.loads(payload)
            runs = tuple((StepProgram.from_json(row["program"]), whole(row["repeats"])) for row in rows)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ProtocolError("malformed plan; update both parties to one version") from None
        if any(repeats < 1 for _, repeats in runs) or sum(repeats for _, repeats in runs) > MAX_STEPS:
            raise ProtocolError("a plan's repeat counts are out of range")
        return Plan(runs)


def whole(value: Any) -> int:
    """An integer of a message; Python would take "3", 3.7 and infinity to int() as well."""
    if type(value) is not int:
        raise TypeError("not a whole number")
    return value


def _shape(value: Any) -> Shape:
    shape = tuple(whole(extent) for extent in value)
    if any(extent < 1 for extent in shape) or len(shape) > 4 or math.prod(shape) > MAX_STEP_ELEMENTS:
        raise ValueError("shape out of range")
    return shape
