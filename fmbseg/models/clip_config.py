"""`open_clip_config.json` of a folder: what it may ask for, and which tokenizer belongs to it.

A folder may come from anybody, so it may describe an architecture of open_clip's own and nothing
that is looked up, downloaded or imported by name.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

import open_clip
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from torch import Tensor

from fmbseg.models.weights import ModelError

Tokenizer = Callable[[list[str]], Tensor]
CONFIG = "open_clip_config.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
_TOKENIZER_KEYS = ("clean", "strip_sep_token", "language")
_PREPROCESS = ("size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color")


def read_clip_config(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model's and the preprocessing's part of a folder's configuration.

    Returns:
        Arguments of `open_clip.CLIP`, and mean, std, interpolation.

    Raises:
        ModelError: no JSON, or it asks for what a folder may not ask for.
    """
    path = folder / CONFIG
    try:
        tree = json.loads(path.read_bytes())
        model, preprocess = tree["model_cfg"], tree.get("preprocess_cfg") or {}
        tuple(model["text_cfg"]), tuple(model["vision_cfg"]), dict(preprocess)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path}: wanted JSON with model_cfg, text_cfg and vision_cfg ({error!r})"[:200]
        ) from None
    known = {one for one in inspect.signature(open_clip.CLIP).parameters if one != "cast_dtype"}
    _refuse_unknown(path, "model_cfg", model, known | {"custom_text"})
    _refuse_unknown(path, "model_cfg.text_cfg", model["text_cfg"], _names(CLIPTextCfg))
    _refuse_unknown(path, "model_cfg.vision_cfg", model["vision_cfg"], _names(CLIPVisionCfg))
    require_own_towers(model, str(path))
    keywords = model["text_cfg"].get("tokenizer_kwargs") or {}
    _refuse_unknown(path, "model_cfg.text_cfg.tokenizer_kwargs", keywords, set(_TOKENIZER_KEYS))
    _refuse_unknown(path, "preprocess_cfg", preprocess, set(_PREPROCESS))
    return model, preprocess


def require_own_towers(config: Mapping[str, Any], what: str) -> None:
    """Refuse towers of timm and transformers, whose names would be looked up elsewhere.

    Raises:
        ModelError: the configuration names one.
    """
    vision, text = config["vision_cfg"].get("timm_model_name"), config["text_cfg"]
    if vision:
        raise ModelError(
            f"{what}: CLIP's image tower is timm's {str(vision)[:60]!r}; wanted open_clip's "
            "VisionTransformer (names such as ViT-B-16-quickgelu)"
        )
    if text.get("hf_model_name"):
        raise ModelError(
            f"{what}: text_cfg.hf_model_name {str(text['hf_model_name'])[:60]!r} is refused, since "
            "it would be looked up on a hub; wanted open_clip's own text tower"
        )


def build_clip_tokenizer(name: str, folder: Path | None) -> Tokenizer:
    """The tokenizer that belongs to a model; a folder may hold its own `bpe.txt.gz`.

    A folder's tokenizer of transformers is read from that folder alone and never brings code.

    Raises:
        ModelError: the folder's tokenizer asks for code, or cannot be read.
    """
    if folder is None:
        tokenizer: Tokenizer = open_clip.get_tokenizer(name)
        return tokenizer
    config, _ = read_clip_config(folder)
    text = config["text_cfg"]
    context, keywords = text.get("context_length", 77), text.get("tokenizer_kwargs") or {}
    if text.get("hf_tokenizer_name") and not (folder / "bpe.txt.gz").is_file():
        _refuse_code(folder / "tokenizer_config.json")
        try:
            hf: Tokenizer = open_clip.tokenizer.HFTokenizer(
                str(folder), context_length=context, tokenizer_mode=text.get("tokenizer_mode"),
                trust_remote_code=False, local_files_only=True, **keywords,
            )  # fmt: skip
        except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
            line = " ".join(str(error).split())[:160]
            raise ModelError(f"{folder}: its tokenizer cannot be read ({line})") from None
        return hf
    own = {"bpe_path": folder / "bpe.txt.gz"} if (folder / "bpe.txt.gz").is_file() else {}
    clean = {key: value for key, value in keywords.items() if key == "clean"}
    simple: Tokenizer = open_clip.SimpleTokenizer(context_length=context, **own, **clean)
    return simple


def tokenizer_files(folder: Path) -> tuple[str, ...]:
    """Names of the tokenizer's files that a repository must give beside its configuration."""
    config, _ = read_clip_config(folder)
    return TOKENIZER_FILES if config["text_cfg"].get("hf_tokenizer_name") else ()


def _refuse_code(path: Path) -> None:
    """Refuse a tokenizer whose configuration names code of its own."""
    try:
        tree = json.loads(path.read_bytes()) if path.is_file() else {}
    except ValueError as error:
        raise ModelError(f"{path}: not valid JSON ({error})") from None
    for key in ("auto_map", "trust_remote_code"):
        if key in tree:
            raise ModelError(f"{path}: {key} is refused, since it makes the folder's code run")


def _refuse_unknown(path: Path, where: str, found: Any, known: set[str]) -> None:
    if not isinstance(found, Mapping):
        raise ModelError(f"{path}: {where}: found {type(found).__name__}, wanted a section")
    for key in found:
        if key not in known:
            raise ModelError(f"{path}: {where}.{str(key)[:60]} is refused; no folder may set it")


def _names(config: type) -> set[str]:
    return {field.name for field in fields(config)}


def clip_class(config: Mapping[str, Any]) -> tuple[type, dict[str, Any]]:
    """The class of open_clip that a configuration stands for, and its arguments."""
    arguments = deepcopy(dict(config))
    custom = arguments.pop("custom_text", False)
    return (open_clip.CustomTextCLIP if custom else open_clip.CLIP), arguments
