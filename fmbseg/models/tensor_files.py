"""Weight files of all formats, read as tensors and nothing else: no file can run code."""

import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from fmbseg.models.torchscript import NotTensorsError, is_torchscript, read_torchscript
from fmbseg.models.weights import ModelError

_HEADS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a pointer of Git LFS in place of the file; run git lfs pull"),
    (b"<", "a web page, so the download went wrong"),
    (b"{", "JSON text, so the download went wrong"),
)
_FORMATS = "wanted safetensors, a torch file or TorchScript"


def read_weights(path: Path, device: str = "cpu") -> dict[str, Tensor]:
    """Load a state dict from safetensors, a torch file or a TorchScript archive.

    The content decides on the format, not the name. Torch files are read with `weights_only`,
    TorchScript by `read_torchscript`; neither makes an object other than a tensor.

    Args:
        path: the file.
        device: "cpu", or "meta" for names, shapes and types without their numbers.

    Raises:
        ModelError: no such file, damaged, cut short, or it holds more than tensors.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    with path.open("rb") as file:
        head = file.read(64)
    for start, words in _HEADS:
        if head.lstrip().startswith(start):
            raise ModelError(f"{path}: found {words}")
    if len(head) < 16:
        raise ModelError(f"{path}: found {len(head)} bytes; {_FORMATS}")
    try:
        if head[8:9] == b"{":
            return _read_safetensors(path, device)
        if is_torchscript(path):
            loaded: Any = read_torchscript(path, device)
        else:
            with path.open("rb") as file:  # by its name torch would take another reader
                loaded = torch.load(file, map_location=device, weights_only=True)
    except (NotTensorsError, pickle.UnpicklingError) as error:
        raise ModelError(
            f"{path}: refused, since it holds more than tensors and could run code "
            f"({_short(error)}); take the weights as safetensors"
        ) from None
    except (
        safetensors.SafetensorError, zipfile.BadZipFile, RuntimeError, OSError, EOFError,
        ValueError, KeyError, IndexError, TypeError, AttributeError,
    ) as error:  # fmt: skip
        raise ModelError(f"{path}: cut short or damaged ({_short(error)}); {_FORMATS}") from None
    return _plain(path, loaded)


def load_all_weights(
    model: torch.nn.Module,
    state: Mapping[str, Tensor],
    what: str,
    ignorable: Callable[[str], bool] = lambda key: False,
) -> None:
    """Load a state dict and refuse one that leaves a part of the model at random values.

    Raises:
        ModelError: keys are missing or unexpected (but for ignorable ones), or shapes differ.
    """
    own = model.state_dict()
    for key, tensor in own.items():
        if key in state and state[key].shape != tensor.shape:
            raise ModelError(
                f"{what}: the weights do not fit the architecture; {key} is "
                f"{tuple(state[key].shape)}, wanted {tuple(tensor.shape)}"
            )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of meta tensors, which have no numbers to copy
        result = model.load_state_dict(state, strict=False)
    missing = [key for key in result.missing_keys if not ignorable(key)]
    unexpected = [key for key in result.unexpected_keys if not ignorable(key)]
    if missing or unexpected:
        raise ModelError(
            f"{what}: the weights do not fit the architecture; missing {missing[:3]} "
            f"({len(missing)} keys), unexpected {unexpected[:3]} ({len(unexpected)} keys)"
        )


def _read_safetensors(path: Path, device: str) -> dict[str, Tensor]:
    with safetensors.safe_open(path, "pt") as file:
        names: list[str] = list(file.keys())
        if device != "meta":
            return {name: file.get_tensor(name) for name in names}
        shapes = {name: file.get_slice(name).get_shape() for name in names}
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def _plain(path: Path, loaded: Any) -> dict[str, Tensor]:
    """The state dict inside a checkpoint, as training scripts wrap it."""
    for wrapping in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapping), dict):
            loaded = loaded[wrapping]
            break
    if not isinstance(loaded, dict) or not loaded:
        raise ModelError(f"{path}: found {type(loaded).__name__}; wanted tensors by name")
    odd = [key for key, value in loaded.items() if not isinstance(value, Tensor)]
    if odd:
        raise ModelError(f"{path}: {str(odd[0])[:60]!r} is no tensor; wanted tensors by name")
    names = [str(key) for key in loaded]
    cut = len("module.") if all(name.startswith("module.") for name in names) else 0
    return {name[cut:]: value for name, value in zip(names, loaded.values(), strict=True)}


def _short(error: Exception) -> str:
    """The part of an upstream message that says what was found, on one line."""
    text = " ".join(str(error).split())
    for mark in ("Unsupported global: ", "Unsupported class ", "Unsupported operand "):
        if mark in text:
            text = text[text.index(mark) :]
    for end in (" Check the documentation", " This is an internal", " Please "):
        text = text.split(end)[0]
    return text[:120] or type(error).__name__
