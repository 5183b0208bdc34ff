"""What the parties say to each other outside of protocol steps: hellos, and the announcement of a step."""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from secure_fair.errors import ProtocolError
from secure_fair.sections import MAX_SEED

PROTOCOL_VERSION = 5
MAX_HELLO_BYTES = 65536
NONCE_BYTES = 16
MAX_TEXT = 200  # characters of a text in a hello
Seed = int  # in a hello
_BELOW = {"int": 2**31, "Seed": MAX_SEED}
_COUNT = struct.Struct("<Q")
COUNT_BYTES = _COUNT.size
Positions = npt.NDArray[np.int64]


class Message:
    """A flat JSON object whose keys and types are the dataclass's own; anything else is refused."""

    def encode(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()  # type: ignore[call-overload]  # subclasses are dataclasses

    @classmethod
    def decode(cls, payload: bytes, sender: str) -> Self:
        try:
            table: dict[str, Any] = json.loads(payload)
            expected = {field.name: field.type for field in fields(cls)}  # type: ignore[arg-type]
            version = table.get("protocol")
            if version != PROTOCOL_VERSION:
                raise ProtocolError(
                    f"{sender} speaks protocol {version!r}, we {PROTOCOL_VERSION}; use one release on both sides"
                )
            if set(table) != set(expected):
                raise ValueError
            return cls(**{name: _checked(value, str(expected[name])) for name, value in table.items()})
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise ProtocolError(f"{sender} sent a malformed hello; use one release on both sides") from None


@dataclass(frozen=True)
class DeveloperHello(Message):
    """The run that the developer asks for; public facts only."""

    protocol: int
    nonce: str
    method: str
    release: str
    settings: str  # digest of the settings that must agree
    records: int  # in the agreed list of ids
    train: int  # of them, how many this run is about
    epochs: int
    batch_size: int
    seed: Seed  # of the adversary's public first weights
    width: int
    classes: int
    features: int  # width of its feature vectors
    releases: int  # how many moments the run's epsilon covers
    first: int  # the first of them that is still to come
    earlier: str  # session in which that one got lost: asked for again, at no cost; empty for none
    run: str  # random name under which the auditor keeps its checkpoints of a `gradient` run
    steps: tuple[int, ...]  # checkpoints that the developer has of it
    checkpoint_steps: int  # how often both make one, beside the end of each epoch


@dataclass(frozen=True)
class AuditorHello(Message):
    """The auditor's answer, when its policy allows the run."""

    protocol: int
    nonce: str
    records: int
    groups: tuple[int, ...]  # K of each attribute
    weighted: bool  # whether the table has a person column


def encode_step(step: int, positions: Positions) -> tuple[bytes, memoryview]:
    """Announce a step and its records' positions in the agreed order."""
    return _COUNT.pack(step), memoryview(np.ascontiguousarray(positions, dtype="<i4")).cast("B")


def step_size(records: int) -> int:
    """Bytes of an announcement of so many records."""
    return _COUNT.size + 4 * records


def decode_step(payload: bytes | bytearray) -> tuple[int, Positions]:
    """The step's number and positions; the size has been checked by whoever received it."""
    return _COUNT.unpack_from(payload)[0], decode_positions(payload[_COUNT.size :])


def encode_count(count: int) -> bytes:
    """A number on its own."""
    return _COUNT.pack(count)


def decode_count(payload: bytes | bytearray) -> int:
    """The other way round."""
    return int(_COUNT.unpack(payload)[0])


def decode_positions(payload: bytes | bytearray) -> Positions:
    """int32 positions as int64."""
    return np.frombuffer(payload, dtype="<i4").astype(np.int64)


def _checked(value: Any, kind: str) -> Any:
    if kind in _BELOW and type(value) is int and 0 <= value < _BELOW[kind]:
        return value
    if kind == "bool" and type(value) is bool:
        return value
    if kind == "str" and type(value) is str and len(value) <= MAX_TEXT:
        value.encode()  # JSON can hold half a surrogate pair, which is no text: a ValueError too
        return value
    if kind in ("tuple[int, ...]", "tuple[str, ...]") and isinstance(value, list):
        return tuple(_checked(item, kind[6:9]) for item in value)
    raise ValueError
