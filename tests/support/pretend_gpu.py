"""A GPU that is none: tensors that say cuda:0, compute on the CPU and behave as CUDA's do.

What a real GPU refuses is refused, in its words: an operation on tensors of two devices, numpy on
a tensor of the device. What makes a real GPU's program wait is counted: everything that brings a
number or a shape back to the processor. A program that runs here without a fault and without a
wait moves its tensors rightly; how fast it is on a GPU, and in which last digits a GPU differs,
does not show.

torch itself takes these tensors for the CPU's (its autograd would ask for a driver otherwise), so
`Tensor.to`, `torch.zeros(device=...)` and their like are replaced while the GPU is pretended, and
inference mode, in which such wrappers cannot be made views of, is no_grad.
"""

import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils import clip_grad
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

GPU = torch.device("cuda:0")
_OWN = str(Path(__file__).parents[2] / "fmbseg")
_aten = torch.ops.aten
_WAITS = {
    _aten._local_scalar_dense, _aten.nonzero, _aten.masked_select, _aten.bincount, _aten.equal,
    _aten._unique2, _aten.unique_dim, _aten.unique_consecutive,
}  # fmt: skip
"""Operations that CUDA ends with a wait: their answer, or its shape, is needed at once."""
_INDEXED = {_aten.index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_}
"""They take indices from the CPU, and look at masks with `nonzero`."""
_GROUPS = "_group_tensors_by_device_and_dtype"
_COPIES = {_aten.copy_, _aten._to_copy}


class Traffic:
    """What went between processor and device, by the line of the library that asked for it.

    Attributes:
        waits: numbers, shapes or tensors that the processor waited for.
        blocking: copies to the device that the processor waited for.
        uploads: all copies to the device.
    """

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()
        self.blocking: Counter[str] = Counter()
        self.uploads: Counter[str] = Counter()
        self._lock = threading.Lock()

    def wait(self, what: str) -> None:
        """Count a wait for the device."""
        with self._lock:
            self.waits[f"{what} at {_place()}"] += 1

    def upload(self, what: str, *, blocking: bool) -> None:
        """Count a copy to the device."""
        with self._lock:
            for counted in (self.uploads, self.blocking) if blocking else (self.uploads,):
                counted[f"{what} at {_place()}"] += 1


traffic = Traffic()


@contextmanager
def counted() -> Iterator[Traffic]:
    """The traffic of what runs inside the block alone."""
    global traffic
    before, traffic = traffic, Traffic()
    try:
        yield traffic
    finally:
        traffic = before


class PretendTensor(Tensor):
    """A tensor of the pretended GPU.

    Attributes:
        held: its numbers, a tensor of the CPU.
    """

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "PretendTensor":
        return Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(),
            dtype=held.dtype, device="cpu",
        )  # fmt: skip

    def __init__(self, held: Tensor) -> None:
        self.held = held

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return GPU

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    @property
    def is_cpu(self) -> bool:  # type: ignore[override]
        return False

    def cpu(self, *_: Any) -> Tensor:
        traffic.wait("cpu")
        return self.held.clone()

    def tolist(self) -> Any:
        traffic.wait("tolist")
        return self.held.tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor "
            "to host memory first."
        )

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        packet, given = func.overloadpacket, tree_leaves((args, kwargs))
        tensors = [one for one in given if isinstance(one, Tensor)]
        others = [one for one in tensors if not isinstance(one, PretendTensor) and one.ndim]
        if packet in _INDEXED:
            indices = [one for one in args[1] if one is not None]
            others = [one for one in others if all(one is not index for index in indices)]
            masks = [one for one in indices if one.dtype in (torch.bool, torch.uint8)]
            filled = packet is not _aten.index and args[2].numel() == 1
            if masks and not filled:
                traffic.wait("mask as index")
        if packet is _aten.copy_ and others:
            if isinstance(args[0], PretendTensor):
                traffic.upload("copy_", blocking=not kwargs.get("non_blocking", False))
            else:
                traffic.wait("copy_")
        elif others and packet not in _COPIES:
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"cuda:0 and cpu! (when checking arguments of {func}; a tensor of the CPU has the "
                f"shape {list(others[0].shape)})"
            )
        if packet in _WAITS:
            traffic.wait(packet.__name__)
        if kwargs.get("device") is not None:
            kwargs["device"] = torch.device("cpu")
        plain = partial(tree_map_only, PretendTensor, lambda one: one.held)
        out = tree_map_only(Tensor, PretendTensor, func(*plain(args), **plain(kwargs)))
        return return_and_correct_aliasing(func, args, kwargs, out)


def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch have a GPU until the test ends, in every thread."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    memory = {"memory_allocated": 0, "memory_reserved": 0, "max_memory_allocated": 2**20}
    for name, size in memory.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, size=size: size)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (2**33, 2**33))
    for name in ("reset_peak_memory_stats", "empty_cache", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # gone again with the GPU
    # A module's parameters are replaced, as they are on a real GPU, not filled with other data.
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion
    monkeypatch.setattr(torch.__future__, overwrites.__name__, lambda: True)
    monkeypatch.setattr(Tensor, "to", _moving(Tensor.to))
    monkeypatch.setattr(Tensor, "cuda", lambda one, *_, **__: one.to(GPU))
    monkeypatch.setattr(Tensor, "pin_memory", lambda one, *_: one)
    monkeypatch.setattr(clip_grad, _GROUPS, _on_gpu(getattr(clip_grad, _GROUPS)))
    for make in _device_constructors():
        if getattr(torch, make.__name__, None) is make:
            monkeypatch.setattr(torch, make.__name__, _making(make))
    monkeypatch.setattr(torch.inference_mode, "__enter__", _enter)
    monkeypatch.setattr(torch.inference_mode, "__exit__", _exit)


def _place() -> str:
    """The innermost line of the library on the stack."""
    for frame in reversed(traceback.extract_stack()):
        if frame.filename.startswith(_OWN):
            return f"{frame.filename.removeprefix(_OWN)}:{frame.lineno}"
    return "?"


def _is_gpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _moving(to: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`Tensor.to` between the processor and the pretended GPU."""

    def moved(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if args and isinstance(args[0], Tensor):
            args = (args[0].device, args[0].dtype, *args[1:])
        copy = kwargs.pop("copy", False)
        device, dtype, non_blocking, memory_format = torch._C._nn._parse_to(*args, **kwargs)
        keywords = {} if memory_format is None else {"memory_format": memory_format}
        if isinstance(self, PretendTensor) and device is not None and not _is_gpu(device):
            self = self.cpu()
        elif not isinstance(self, PretendTensor) and _is_gpu(device):
            assert not (self.requires_grad and torch.is_grad_enabled()), "no gradient goes back"
            traffic.upload("to", blocking=not non_blocking)
            self = PretendTensor(self.detach().clone())
        return to(self, dtype=dtype or self.dtype, copy=copy, **keywords)

    return moved


def _making(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`torch.zeros` and its like, with `device=`."""

    def made(*args: Any, **kwargs: Any) -> Tensor:
        if not _is_gpu(kwargs.get("device")):
            return make(*args, **kwargs)
        kwargs["device"] = "cpu"
        if make.__name__ in ("tensor", "as_tensor", "asarray"):
            if isinstance(args[0], PretendTensor):
                return args[0].to(kwargs.get("dtype") or args[0].dtype)
            traffic.upload(make.__name__, blocking=True)
        return PretendTensor(make(*args, **kwargs))

    return made


def _on_gpu(grouped: Callable[..., dict[Any, Any]]) -> Callable[..., dict[Any, Any]]:
    """Tensors by device, where torch takes the pretended GPU's for the CPU's."""

    def groups(lists: list[list[Tensor]]) -> dict[Any, Any]:
        theirs = any(isinstance(one, PretendTensor) for one in lists[0])
        found = grouped(lists)
        return {(GPU, dtype): some for (_, dtype), some in found.items()} if theirs else found

    return groups


def _enter(self: Any) -> None:
    self.before = torch.is_grad_enabled()
    torch.set_grad_enabled(not self.mode and self.before)


def _exit(self: Any, *_: Any) -> None:
    torch.set_grad_enabled(self.before)
