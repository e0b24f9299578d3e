"""`open_clip_config.json` of a folder: what it may ask for, and which tokenizer belongs to it.

A folder may come from anybody, so it may describe an architecture of open_clip's own and nothing
that is looked up, downloaded or imported by name.
"""

import inspect
import json
from collections.abc import Callable, Container, Mapping
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmbseg.models.weights import ModelError, Source

if TYPE_CHECKING:  # where a folder is only found, nobody waits for torch
    from torch import Tensor

Tokenizer = Callable[[list[str]], "Tensor"]
TEMPLATE = 'a photo of a "{}"'
CONFIG = "open_clip_config.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
_TOKENIZER_KEYS = ("clean", "strip_sep_token", "language")
_PREPROCESS = ("size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color")


def imagenet_templates() -> tuple[str, ...]:
    """The 80 templates of OpenAI's ImageNet evaluation."""
    import open_clip

    return tuple(template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES)


def read_clip_config(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model's and the preprocessing's part of a folder's configuration.

    Returns:
        Arguments of `open_clip.CLIP`, and mean, std, interpolation.

    Raises:
        ModelError: no JSON, or it asks for what a folder may not ask for.
    """
    import open_clip
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

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
    for part, kind in (("text_cfg", CLIPTextCfg), ("vision_cfg", CLIPVisionCfg)):
        _refuse_unknown(path, f"model_cfg.{part}", model[part], kind.__dataclass_fields__)
    require_known_towers(model, str(path))
    keywords = model["text_cfg"].get("tokenizer_kwargs") or {}
    _refuse_unknown(path, "model_cfg.text_cfg.tokenizer_kwargs", keywords, _TOKENIZER_KEYS)
    _refuse_unknown(path, "preprocess_cfg", preprocess, _PREPROCESS)
    return model, preprocess


def require_known_towers(config: Mapping[str, Any], what: str) -> None:
    """Refuse towers whose names would be looked up on a hub.

    Raises:
        ModelError: the configuration names one.
    """
    import timm

    vision, text = config["vision_cfg"].get("timm_model_name"), config["text_cfg"]
    if vision and (":" in str(vision) or not timm.is_model(str(vision))):
        raise ModelError(
            f"{what}: vision_cfg.timm_model_name {str(vision)[:60]!r} is refused, since it would "
            "be looked up on a hub; wanted a name of timm.list_models()"
        )
    if text.get("hf_model_name"):
        raise ModelError(
            f"{what}: text_cfg.hf_model_name {str(text['hf_model_name'])[:60]!r} is refused, since "
            "it would be looked up on a hub; wanted open_clip's own text tower"
        )


def build_clip_tokenizer(name: str, folder: Path | None) -> Tokenizer:
    """The tokenizer that belongs to a model; a folder may hold its own `bpe.txt.gz`.

    A tokenizer of transformers is read from the model's folder, or for a name of open_clip's list
    from the Hugging Face cache; it never brings code, and nothing is fetched.

    Args:
        name: of the model.
        folder: that the name stands for, or None for a name of open_clip's list.

    Raises:
        MissingWeightsError: the tokenizer's files are not here.
        ModelError: the tokenizer asks for code, or cannot be read.
    """
    import open_clip

    text = _text_config(name, folder)
    context, keywords = text.get("context_length", 77), text.get("tokenizer_kwargs") or {}
    hub, bpe = text.get("hf_tokenizer_name"), None if folder is None else folder / "bpe.txt.gz"
    own = bpe is not None and bpe.is_file()
    tokenizer: Tokenizer
    if folder is None and not hub:
        tokenizer = open_clip.get_tokenizer(name)
    elif hub and not own:
        place = folder or _cached_tokenizer(name, str(hub))
        _refuse_code(place / "tokenizer_config.json")
        try:
            tokenizer = open_clip.tokenizer.HFTokenizer(
                str(place), context_length=context, tokenizer_mode=text.get("tokenizer_mode"),
                trust_remote_code=False, local_files_only=True, **keywords,
            )  # fmt: skip
        except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
            line = " ".join(str(error).split())[:160]
            raise ModelError(f"{place}: its tokenizer cannot be read ({line})") from None
    else:
        options = {key: value for key, value in keywords.items() if key == "clean"}
        options |= {"bpe_path": bpe} if own else {}
        tokenizer = open_clip.SimpleTokenizer(context_length=context, **options)
    return tokenizer


def tokenizer_files(name: str, folder: Path | None) -> list[tuple[str, str]]:
    """Repository and name of the files that a model's tokenizer needs from a hub."""
    hub = _text_config(name, folder).get("hf_tokenizer_name")
    if not hub:
        return []
    repo = str(hub) if folder is None else name.removeprefix("hf-hub:")
    return [(repo, file) for file in TOKENIZER_FILES]


def _text_config(name: str, folder: Path | None) -> dict[str, Any]:
    if folder is not None:
        found: dict[str, Any] = read_clip_config(folder)[0]["text_cfg"]
        return found
    import open_clip

    config = open_clip.get_model_config(name)
    return {} if config is None else dict(config["text_cfg"])


def _cached_tokenizer(name: str, repo: str) -> Path:
    what = f"the tokenizer of CLIP {name} ({repo})"
    found = [Source(what, hub=repo, hub_files=(file,)).require() for file in TOKENIZER_FILES]
    return found[0].parent


def _refuse_code(path: Path) -> None:
    """Refuse a tokenizer whose configuration names code of its own."""
    try:
        tree = json.loads(path.read_bytes()) if path.is_file() else {}
    except ValueError as error:
        raise ModelError(f"{path}: not valid JSON ({error})") from None
    for key in ("auto_map", "trust_remote_code"):
        if key in tree:
            raise ModelError(f"{path}: {key} is refused, since it makes the folder's code run")


def _refuse_unknown(path: Path, where: str, found: Any, known: Container[str]) -> None:
    if not isinstance(found, Mapping):
        raise ModelError(f"{path}: {where}: found {type(found).__name__}, wanted a section")
    for key in found:
        if key not in known:
            raise ModelError(f"{path}: {where}.{str(key)[:60]} is refused; no folder may set it")


def clip_class(config: Mapping[str, Any]) -> tuple[type, dict[str, Any]]:
    """The class of open_clip that a configuration stands for, and its arguments.

    No tower of timm fetches weights of its own.
    """
    import open_clip

    arguments = deepcopy(dict(config))
    if arguments["vision_cfg"].get("timm_model_name"):
        arguments["vision_cfg"]["timm_model_pretrained"] = False
    custom = arguments.pop("custom_text", False)
    return (open_clip.CustomTextCLIP if custom else open_clip.CLIP), arguments
