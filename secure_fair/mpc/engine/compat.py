"""The one module that imports CrypTen; it makes CrypTen 0.4.1 importable on current PyTorch first.

`crypten.nn.onnx_converter` imports `torch.onnx.symbolic_registry`, else `torch.onnx._internal.registration`; torch
2.9 removed the second after the first had gone. The converter is never used here, so an empty module is enough. It
has to be in place before the import, which is why this module, alone in the project, acts when it is imported.
"""

from __future__ import annotations

import importlib.util
import sys
import types
import warnings

_MISSING = "torch.onnx.symbolic_registry"


def needs_stub() -> bool:
    """Whether this torch lacks both modules that CrypTen's ONNX converter tries."""
    for name in (_MISSING, "torch.onnx._internal.registration"):
        try:
            if importlib.util.find_spec(name) is not None:
                return False
        except ModuleNotFoundError:  # a parent package of the name is gone too
            continue
    return True


if _MISSING not in sys.modules and needs_stub():
    sys.modules[_MISSING] = types.ModuleType(_MISSING)
with warnings.catch_warnings():
    # CrypTen's sources hold invalid escape sequences and deprecated calls; they are not ours to mend.
    warnings.simplefilter("ignore")
    import crypten
    from crypten.communicator import Communicator
    from crypten.mpc.primitives import ArithmeticSharedTensor, BinarySharedTensor
    from crypten.mpc.provider.provider import TupleProvider

__all__ = ["ArithmeticSharedTensor", "BinarySharedTensor", "Communicator", "TupleProvider", "crypten", "needs_stub"]
