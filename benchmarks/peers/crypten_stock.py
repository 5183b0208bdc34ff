"""Stock CrypTen: its own autograd, communicator (gloo) and tuple providers, in processes of its own.

`python -m benchmarks.peers.crypten_stock FOLDER {TFP,TTP}`; the files are those of the package's docstring. Only the
stub without which CrypTen does not import on current PyTorch is ours.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from importlib.metadata import version
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import numpy as np
import torch

from secure_fair.mpc.engine.compat import crypten

PARTIES = 2
WARM_UP = 3
RESULT_SECONDS = 600.0
Inputs = dict[str, Any]
OWNER = {"u": 0, "h": 0, "y": 0, "t": 1}  # the others are shared before


class Counter:
    """Counts what one party's communicator sends and receives; what goes to CrypTen's third party is apart."""

    def __init__(self, communicator: Any) -> None:
        self._communicator = communicator
        self._helping = False
        self.reset()
        for name in ("all_reduce", "all_gather", "broadcast", "reduce", "gather", "scatter", "send", "recv"):
            self._count(name)
        if crypten.mpc.ttp_required():
            client = crypten.mpc.provider.ttp_provider.TTPClient.get()
            client.ttp_request = self._apart(client.ttp_request)

    def reset(self) -> None:
        self.rounds = self.sent = self.received = self.offline = 0

    def _count(self, name: str) -> None:
        original = getattr(self._communicator, name)

        def counted(value: Any, *arguments: Any, **options: Any) -> Any:
            result = original(value, *arguments, **options)
            self._add(name, value, result, arguments[0] if arguments else options.get("src", options.get("dst")))
            return result

        setattr(self._communicator, name, counted)

    def _add(self, name: str, value: Any, result: Any, end: Any) -> None:
        size = _bytes(value)
        if self._helping:
            self.offline += size
            return
        self.rounds += 1
        first = end == self._communicator.get_rank()
        if name in ("all_reduce", "all_gather"):
            self.sent += size
            self.received += size
        elif name == "scatter":
            self.sent += size - size // PARTIES if first else 0
            self.received += 0 if first else _bytes(result)
        elif (name in ("reduce", "gather") and first) or (name == "broadcast" and not first) or name == "recv":
            self.received += size
        else:
            self.sent += size

    def _apart(self, request: Callable[..., Any]) -> Callable[..., Any]:
        """Three calls on the way of every tuple: they are rounds, and their bytes are offline."""

        def counted(*arguments: Any, **options: Any) -> Any:
            self._helping = True
            try:
                return request(*arguments, **options)
            finally:
                self._helping = False
                self.rounds += 3

        return counted


def _bytes(value: Any) -> int:
    if isinstance(value, (list, tuple)):
        return sum(_bytes(each) for each in value)
    return value.numel() * value.element_size() if torch.is_tensor(value) else 0


def share(inputs: Inputs, requires_grad: str = "") -> Inputs:
    """Each input as its owner's; w and x as the first party's, which makes them shares all the same."""
    return {
        name: crypten.cryptensor(torch.from_numpy(value), src=OWNER.get(name, 0), requires_grad=name in requires_grad)
        for name, value in inputs.items()
    }


def adv_autograd(case: dict[str, Any], inputs: Inputs) -> Any:
    """As CrypTen's users write it: loss, backward, gradient of the representation opened, SGD on the shared weights."""
    held = share(inputs, "uw")
    loss = held["u"].matmul(held["w"]).binary_cross_entropy_with_logits(held["t"])
    loss.backward()
    _ = held["w"] * (1 - case["rate"] * case["decay"]) - held["w"].grad * case["rate"]
    gradient = held["u"].grad[:, :-1] * case["n"]  # its loss is a mean
    return gradient.get_plain_text(dst=0)


def adv_by_hand(case: dict[str, Any], inputs: Inputs) -> Any:
    """The gradient's formula, which spares CrypTen the loss and its logarithms."""
    held = share(inputs)
    r = held["u"].matmul(held["w"]).sigmoid() - held["t"]
    gradient = r.matmul(held["w"].t())
    _ = held["w"] * (1 - case["rate"] * case["decay"]) - held["u"].t().matmul(r) * (case["rate"] / case["n"])
    return gradient[:, :-1].get_plain_text(dst=0)


def parity(_: dict[str, Any], inputs: Inputs) -> Any:
    held = share(inputs)
    return held["t"].matmul(held["t"].t().matmul(held["h"])).get_plain_text(dst=0)


def odds(case: dict[str, Any], inputs: Inputs) -> Any:
    held = share(inputs)
    classes, groups = inputs["y"].shape[1], inputs["t"].shape[1]
    joint = [held["y"][:, c : c + 1] * held["t"] for c in range(classes)]
    q = crypten.cat(joint, dim=1)
    assert q.shape == (case["n"], classes * groups)  # noqa: S101
    return q.matmul(q.t().matmul(held["h"])).get_plain_text(dst=0)


def product(_: dict[str, Any], inputs: Inputs) -> Any:
    held = share(inputs)
    return held["h"].t().matmul(held["t"]).get_plain_text(dst=0)


PROGRAMS: dict[str, list[tuple[str | None, Callable[[dict[str, Any], Inputs], Any]]]] = {
    "adv": [("autograd", adv_autograd), ("by hand", adv_by_hand)],
    "orth-parity": [(None, parity)],
    "orth-odds": [(None, odds)],
    "product": [(None, product)],
    "sigmoid": [],
}


def sigmoid(case: dict[str, Any], inputs: Inputs, counter: Counter) -> tuple[list[float], Any]:
    """Of a number shared before; opened after the clock has stopped."""
    held = share(inputs)
    result, ms = repeat(case, held["x"].sigmoid, counter)
    return ms, result.get_plain_text(dst=0)


def repeat(case: dict[str, Any], body: Callable[[], Any], counter: Counter) -> tuple[Any, list[float]]:
    """The last result, and milliseconds of each repetition; both parties agree when to stop by counting."""
    for _ in range(WARM_UP):
        body()
    ms: list[float] = []
    counter.reset()
    for _ in range(case["repetitions"]):
        began = time.perf_counter()
        result = body()
        ms.append(1000 * (time.perf_counter() - began))
    return result, ms


def party(rank: int, provider: str, folder: Path, rendezvous: str, pipe: Pipe) -> None:
    """One process: a party, or at the last rank CrypTen's third party."""
    warnings.simplefilter("ignore")  # CrypTen's sources call what PyTorch deprecates
    torch.set_num_threads(1)
    values = {"WORLD_SIZE": PARTIES, "RANK": rank, "RENDEZVOUS": f"file://{rendezvous}", "DISTRIBUTED_BACKEND": "gloo"}
    os.environ.update({key: str(value) for key, value in values.items()})
    crypten.cfg.mpc.provider = provider
    try:
        if rank == PARTIES:
            crypten.mpc.provider.ttp_provider.TTPServer()
            return
        crypten.init()
        pipe.send((True, measure(rank, folder)))
        crypten.uninit()
    except Exception:  # noqa: BLE001 (told to the launcher)
        pipe.send((False, traceback.format_exc()))


def measure(rank: int, folder: Path) -> tuple[list[dict[str, Any]], list[Any]]:
    """Rows and results of the first party; the second takes part."""
    counter = Counter(crypten.communicator.get())
    arrays = np.load(folder / "inputs.npz", allow_pickle=False)
    rows: list[dict[str, Any]] = []
    results: list[Any] = []

    def add(index: int, variant: str | None, case: dict[str, Any], ms: list[float], result: Any) -> None:
        each = {
            "bytes_sent": counter.sent,
            "bytes_received": counter.received,
            "offline_bytes": counter.offline,
            "rounds": counter.rounds,
        }
        rows.append(
            {"case": index, "variant": variant, "reason": None, "ms": ms}
            | {key: v / len(ms) for key, v in each.items()}
        )
        results.append(result.numpy() if rank == 0 else None)  # opened to the first party alone

    for index, case in enumerate(json.loads((folder / "cases.json").read_text())):
        prefix = f"{index}/"
        inputs = {name.removeprefix(prefix): arrays[name] for name in arrays.files if name.startswith(prefix)}
        inputs = {name: value.astype(np.float32) for name, value in inputs.items()}
        if case["op"] == "sigmoid":
            add(index, None, case, *sigmoid(case, inputs, counter))
        for variant, program in PROGRAMS[case["op"]]:
            result, ms = repeat(case, lambda run=program, c=case, i=inputs: run(c, i), counter)  # type: ignore[misc]
            add(index, variant, case, ms, result)
    return rows, results


def main(folder: Path, provider: str) -> None:
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as meeting:
        rendezvous = str(Path(meeting) / "rendezvous")
        pipes, processes = [], []
        for rank in range(PARTIES + (provider == "TTP")):
            ours, theirs = context.Pipe(duplex=False)
            pipes.append(ours)
            processes.append(context.Process(target=party, args=(rank, provider, folder, rendezvous, theirs)))
            processes[-1].start()
            theirs.close()
        try:
            answer = pipes[0].recv() if pipes[0].poll(RESULT_SECONDS) else (False, "no answer in time")
        finally:
            for process in processes:
                process.join(2)
                process.kill()
                process.join()
    if not answer[0]:
        sys.exit(str(answer[1]))
    rows, results = tuple(answer[1])
    system = f"crypten-{provider.lower()}"
    notes = "processes, gloo over loopback, no encryption; rounds are calls of its communicator"
    np.savez(folder / f"{system}.npz", **{str(index): result for index, result in enumerate(results)})
    versions = {name: version(name) for name in ("crypten", "torch")}
    (folder / f"{system}.json").write_text(json.dumps({"versions": versions, "notes": notes, "rows": rows}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
