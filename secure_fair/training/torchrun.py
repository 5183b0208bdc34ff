"""Being one of the processes that `torchrun` has started on this host, with a GPU each or on the CPU."""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from secure_fair.elastic import several
from secure_fair.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from secure_fair.settings import Settings
    from secure_fair.training.processes import Processes


@contextmanager
def joined(settings: Settings) -> Iterator[Processes | None]:
    """The processes that this one leads, itself alone without torchrun; None where it has been led, to the end.

    Raises SettingsError for what cannot be shared out, RunError when another process has ended or stalled.
    """
    from secure_fair.training.processes import ALONE

    if not several():
        yield ALONE
        return
    chosen = _device(settings)

    from torch import distributed

    from secure_fair.training.follower import Follower
    from secure_fair.training.ranks import END, Leader, exchanging, order

    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
    os.environ |= {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback}  # neither encrypts
    # What rank 0 may have to wait for peers of its own while the others wait for its orders.
    limit = settings.network.idle_timeout_seconds + settings.network.start_timeout_seconds
    # Orders go through gloo on GPUs too: it notices at once that a process is gone.
    backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
    with exchanging():
        distributed.init_process_group(backend, timeout=timedelta(seconds=limit))
    if distributed.get_rank() == 0:
        yield Leader(chosen)
        with exchanging():
            order(END)
    else:
        Follower(settings, chosen).serve()
        yield None
    distributed.destroy_process_group()


def _device(settings: Settings) -> torch.device:
    """Ours, of those on this host. Raises SettingsError."""
    ranks, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if local != ranks:
        raise SettingsError("the developer's processes must be on one host: they do not encrypt what they exchange")
    if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")):
        raise SettingsError("torchrun would begin the run, and its debits, again; use --max-restarts 0 and --resume")
    import torch

    from secure_fair.training import device

    chosen = device.resolve(settings.training.device)
    if chosen.type == "cuda":
        if torch.device(settings.training.device.replace("auto", "cuda")).index is not None:
            raise SettingsError('training.device: each process takes a GPU of its own; write "auto" or "cuda"')
        if local > torch.cuda.device_count():
            raise SettingsError(f"{local} processes for {torch.cuda.device_count()} GPUs; start no more than those")
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        chosen = device.resolve("cuda")
    return chosen
