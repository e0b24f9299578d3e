"""Where the weights of a vision encoder lie. Light to import: nothing is built here."""

from pathlib import Path

from fmbseg.models.weights import ModelError, Source, hub_checkpoints, named_folder

HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def vision_folder(name: str) -> Path | None:
    """The folder that a name stands for, or None for a name of timm's list.

    Raises:
        MissingWeightsError: the folder lacks its config.
    """
    if name.startswith("hf-hub:"):
        repo, files = name.removeprefix("hf-hub:"), ("config.json",)
        return Source(f"vision encoder {name}", hub=repo, hub_files=files).require().parent
    return named_folder(
        name, f"vision encoder {name}", "vision", "config.json and model.safetensors",
        lambda folder: (folder / "config.json").is_file(),
    )  # fmt: skip


def vision_source(name: str, pretrained: bool | str | Path = True) -> Source:
    """Where the weights may lie: the user's file, the Hugging Face cache, Meta's in torch hub's.

    Raises:
        MissingWeightsError: a folder lacks its config.
        ModelError: no weights are known for the name.
    """
    what = f"vision encoder {name}"
    if pretrained is False:
        return Source(what)
    if not isinstance(pretrained, bool):
        remedy = f"models.vision.pretrained names no file: {pretrained}"
        return Source(what, (Path(pretrained),), remedy=remedy)
    files: tuple[Path, ...] = ()
    if name.startswith("hf-hub:"):
        repo = name.removeprefix("hf-hub:")
    else:
        folder = vision_folder(name)
        if folder is not None:
            own = tuple(folder / file for file in HUB_FILES)
            return Source(what, own, remedy=f"put model.safetensors into {folder}")
        repo, files = timm_repo(name), _official_files(name)
    address = f"https://huggingface.co/{repo}"
    return Source(what, files, hub=repo, hub_files=HUB_FILES, address=address)


def _official_files(name: str) -> tuple[Path, ...]:
    """The authors' own file in torch hub's folder, such as Meta's dinov2_vitb14_pretrain.pth."""
    import timm

    url = str(timm.get_pretrained_cfg(name).url or "")
    return (hub_checkpoints() / Path(url).name,) if url else ()


def timm_repo(name: str) -> str:
    """The Hugging Face repository of a name's weights.

    Raises:
        ModelError: timm knows no such name, or no weights for it.
    """
    import timm

    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # the model is known, its tag is not
        config = None
    if config is None or not config.hf_hub_id:
        raise ModelError(
            f"models.vision.name: timm knows no weights for {name!r}; wanted a name such as "
            "vit_base_patch14_dinov2.lvd142m, or pretrained = a file"
        )
    return str(config.hf_hub_id)
