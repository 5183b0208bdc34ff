"""MPyC: three parties of which one may be dishonest (Shamir sharing), the least that it protects inputs with.

A program for an environment that has `mpyc` and `numpy`: `python mpyc_party.py FOLDER -M3`; MPyC starts the other two
parties itself. The files are those of the package's docstring. MPyC has no sigmoid: it is put together here from its
own arrays, comparison and products.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from mpyc.runtime import mpc

FRACTION_BITS = 28
EXPONENT_STEPS = 12  # e^-a = (1 - a 2^-12)^(2^12), off by 7e-5 at most
NEWTON_STEPS = 4
WEIGHT = 2.0**16
LARGEST_SIGMOID = 256
NUMBER = mpc.SecFxp(64, FRACTION_BITS)
OWNER = {"u": 0, "h": 0, "y": 0, "t": 1}


def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-|x|), mirrored for negative x; |x| < 2^12."""
    negative = x < 0
    size = x * (1 - 2 * negative)
    power = 1 - size * 2.0**-EXPONENT_STEPS
    for _ in range(EXPONENT_STEPS):
        power = power * power
    half = (power + 1) * 0.5  # in [1/2, 1]
    inverse = 2.9142 - 2 * half
    for _ in range(NEWTON_STEPS):
        inverse = inverse * (2 - half * inverse)
    value = inverse * 0.5
    return negative + value * (1 - 2 * negative)


def adv(case: dict[str, Any], u: Any, w: Any, t: Any) -> Any:
    """w comes as integers, WEIGHT times too large: MPyC need not truncate a product with those, which costs most."""
    r = sigmoid((u @ w) * (1 / WEIGHT)) - t
    gradient = r @ w.T
    _ = w * (1 - case["rate"] * case["decay"]) - (u.T @ r) * (WEIGHT * case["rate"] / case["n"])
    return gradient[:, :-1]


def parity(_: dict[str, Any], h: Any, t: Any) -> Any:
    return t @ (t.T @ h)


def odds(_: dict[str, Any], h: Any, y: Any, t: Any) -> Any:
    q = mpc.np_hstack([y[:, c : c + 1] * t for c in range(y.shape[1])])
    return q @ (q.T @ h)


def product(_: dict[str, Any], h: Any, t: Any) -> Any:
    return h.T @ t


PROGRAMS: dict[str, Callable[..., Any]] = {
    "adv": adv,
    "orth-parity": parity,
    "orth-odds": odds,
    "product": product,
}


def bytes_sent() -> int:
    """By this party, to both others, as MPyC counts them."""
    return int(sum(peer.protocol.nbytes_sent for peer in mpc.parties if peer.pid != mpc.pid))


async def run(case: dict[str, Any], inputs: dict[str, Any]) -> Any:
    """Inputs from their owners, the computation, and the result to the first party."""
    if "w" in inputs:
        inputs = inputs | {"w": np.rint(inputs["w"] * WEIGHT)}
    held = {name: mpc.input(NUMBER.array(value), senders=OWNER.get(name, 0)) for name, value in inputs.items()}
    result = await mpc.output(PROGRAMS[case["op"]](case, **held), receivers=0)
    return result / WEIGHT if "w" in inputs and result is not None else result


async def measure(case: dict[str, Any], inputs: dict[str, Any]) -> tuple[list[float], int, Any]:
    """Milliseconds of each repetition, bytes sent by the first party in one, and the result."""
    body: Callable[[], Awaitable[Any]]
    if case["op"] == "sigmoid":
        x = mpc.input(NUMBER.array(inputs["x"]), senders=0)
        await mpc.barrier()

        async def body() -> Any:
            value = sigmoid(x)
            await mpc.gather(value)
            return value
    else:

        async def body() -> Any:
            return await run(case, inputs)

    ms: list[float] = []
    result: Any = None
    while True:
        await mpc.barrier()
        before, began = bytes_sent(), time.perf_counter()
        result = await body()
        await mpc.barrier()
        ms.append(1000 * (time.perf_counter() - began))
        sent = bytes_sent() - before
        # The first party decides for all, since their clocks differ.
        enough = len(ms) >= case["repetitions"] or sum(ms) > 1000 * case["seconds"]
        if await mpc.transfer(enough, senders=0):
            break
    if case["op"] == "sigmoid":
        result = await mpc.output(result, receivers=0)
    return ms, sent, result


async def main(folder: Path) -> None:
    cases = json.loads((folder / "cases.json").read_text())
    arrays = np.load(folder / "inputs.npz", allow_pickle=False)
    await mpc.start()
    rows: list[dict[str, Any]] = []
    results: dict[str, Any] = {}
    for index, case in enumerate(cases):
        prefix = f"{index}/"
        inputs = {name.removeprefix(prefix): arrays[name] for name in arrays.files if name.startswith(prefix)}
        if case["op"] == "sigmoid" and case["n"] > LARGEST_SIGMOID:
            reason = f"left out: seconds grow with the elements; see that of {LARGEST_SIGMOID}"
            results[str(len(rows))] = np.empty(0)
            rows.append({"case": index, "variant": None, "reason": reason})
            continue
        ms, sent, result = await measure(case, inputs)
        if mpc.pid == 0:
            results[str(len(rows))] = np.asarray(result, dtype=np.float64)
        counted = {"rounds": None, "bytes_sent": sent, "bytes_received": None, "offline_bytes": None}
        rows.append({"case": index, "variant": None, "reason": None, "ms": ms, **counted})
    first = mpc.pid == 0
    await mpc.shutdown()
    if first:
        notes = "three processes over loopback, no encryption, honest majority; bytes to both others; no offline part"
        versions = {name: version(name) for name in ("mpyc", "numpy")}
        np.savez(folder / "mpyc.npz", **results)
        (folder / "mpyc.json").write_text(json.dumps({"versions": versions, "notes": notes, "rows": rows}))


if __name__ == "__main__":
    mpc.run(main(Path(sys.argv[1])))
