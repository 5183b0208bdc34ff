"""SecretFlow-SPU: two parties as threads of one process with links in memory, its own simulation; semi2k, 64-bit ring.

A program for an environment that has `spu`; see the package's docstring for the files. Each case is compiled once;
measured are sharing of the inputs, run and reconstruction.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from spu import api, libspu
from spu.utils import frontend

PARTIES = 2
LINK = re.compile(rb"Link details: total send bytes (\d+), recv bytes (\d+), send actions (\d+)")
WARM_UP = 3


def config() -> Any:
    """semi2k, triples by its default (a trusted first party); the Pade exponential, its most exact one."""
    chosen = libspu.RuntimeConfig(protocol=libspu.ProtocolKind.SEMI2K, field=libspu.FieldType.FM64)
    chosen.fxp_exp_mode = libspu.RuntimeConfig.EXP_PADE
    return chosen


def function(case: dict[str, Any]) -> Callable[..., Any]:
    """The case as a JAX function of its inputs, in the order of their names."""
    rate, decay, n = case["rate"], case["decay"], case["n"]

    def adv(t: Any, u: Any, w: Any) -> Any:
        r = jax.nn.sigmoid(u @ w) - t
        return (r @ w.T)[:, :-1], (1 - rate * decay) * w - (rate / n) * (u.T @ r)

    def odds(h: Any, t: Any, y: Any) -> Any:
        q = (y[:, :, None] * t[:, None, :]).reshape(n, -1)
        return q @ (q.T @ h)

    functions: dict[str, Callable[..., Any]] = {
        "adv": adv,
        "orth-parity": lambda h, t: t @ (t.T @ h),
        "orth-odds": odds,
        "product": lambda h, t: h.T @ t,
        "sigmoid": jax.nn.sigmoid,
    }
    return functions[case["op"]]


class Simulation:
    """One compiled case."""

    def __init__(self, case: dict[str, Any], inputs: dict[str, Any]) -> None:
        self._values = [np.asarray(inputs[name], dtype=np.float32) for name in sorted(inputs)]
        self._names = [f"in{index}" for index in range(len(self._values))]
        self._executable, self._shape = frontend.compile(
            frontend.Kind.JAX,
            function(case),
            [jnp.asarray(value) for value in self._values],
            {},
            self._names,
            [libspu.Visibility.VIS_SECRET] * len(self._values),
            lambda outputs: [f"out{index}" for index in range(len(outputs))],
        )
        self._io = api.Io(PARTIES, config())
        self._runtimes = self._connect(config())

    def run(self) -> Any:
        """The first output, reconstructed."""
        outputs = self._run(self._runtimes)
        return self._io.reconstruct(outputs[0])

    def traffic(self) -> tuple[int, int, int] | None:
        """Bytes sent and received and messages sent by the first party, as SPU's profile tells them."""
        profiled = config()
        profiled.enable_hal_profile = profiled.enable_pphlo_profile = True
        with tempfile.TemporaryFile() as file:
            with redirected(file.fileno()):
                self._run(self._connect(profiled))
            file.seek(0)
            found = LINK.findall(file.read())
        return (int(found[0][0]), int(found[0][1]), int(found[0][2])) if found else None

    def _connect(self, first: Any) -> list[Any]:
        description = libspu.link.Desc()
        for rank in range(PARTIES):
            description.add_party(f"id_{rank}", f"thread_{rank}")

        def runtime(rank: int) -> Any:
            return api.Runtime(libspu.link.create_mem(description, rank), first if rank == 0 else config())

        return together(runtime)

    def _run(self, runtimes: list[Any]) -> list[list[Any]]:
        shares = [self._io.make_shares(value, libspu.Visibility.VIS_SECRET) for value in self._values]

        def party(rank: int) -> list[Any]:
            for name, share in zip(self._names, shares, strict=True):
                runtimes[rank].set_var(name, share[rank])
            runtimes[rank].run(self._executable)
            return [runtimes[rank].get_var(name) for name in self._executable.output_names]

        return [list(output) for output in zip(*together(party), strict=True)]


def together(body: Callable[[int], Any]) -> list[Any]:
    """`body(rank)` in a thread for each party."""
    results: list[Any] = [None] * PARTIES

    def run(rank: int) -> None:
        results[rank] = body(rank)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(PARTIES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@contextlib.contextmanager
def redirected(target: int) -> Iterator[None]:
    """Standard output and error go to this descriptor meanwhile, the library's own writing too."""
    saved = [os.dup(number) for number in (1, 2)]
    try:
        for number in (1, 2):
            os.dup2(target, number)
        yield
    finally:
        for number, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, number)
            os.close(copy)


def measure(case: dict[str, Any], inputs: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    simulation = Simulation(case, inputs)
    for _ in range(WARM_UP):
        result = simulation.run()
    ms: list[float] = []
    while len(ms) < case["repetitions"] and sum(ms) < 1000 * case["seconds"]:
        began = time.perf_counter()
        result = simulation.run()
        ms.append(1000 * (time.perf_counter() - began))
    sent, received, messages = simulation.traffic() or (None, None, None)
    row = {"ms": ms, "rounds": messages, "bytes_sent": sent, "bytes_received": received, "offline_bytes": None}
    return row, np.asarray(result, dtype=np.float64)


def main(folder: Path) -> None:
    cases = json.loads((folder / "cases.json").read_text())
    arrays = np.load(folder / "inputs.npz", allow_pickle=False)
    rows: list[dict[str, Any]] = []
    results: dict[str, Any] = {}
    for index, case in enumerate(cases):
        prefix = f"{index}/"
        inputs = {name.removeprefix(prefix): arrays[name] for name in arrays.files if name.startswith(prefix)}
        row, result = measure(case, inputs)
        results[str(len(rows))] = result
        rows.append({"case": index, "variant": None, "reason": None, **row})
    notes = "two threads of one process, links in memory; rounds are messages sent; triples by its first party"
    np.savez(folder / "spu.npz", **results)
    versions = {name: version(name) for name in ("spu", "jax", "numpy")}
    (folder / "spu.json").write_text(json.dumps({"versions": versions, "notes": notes, "rows": rows}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
