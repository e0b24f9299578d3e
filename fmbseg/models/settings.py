"""Which frozen models are used: the section `models` of params.yaml."""

from typing import Annotated, Literal

from pydantic import Field

from fmbseg.section import Section


class ModelSpec(Section):
    """One model's keys in place of the profile's; a key that is left out stays the profile's."""

    name: str | None = None
    pretrained: str | None = None
    checkpoint: str | None = None
    quick_gelu: bool | None = None


class ModelsParams(Section):
    """The three frozen foundation models: a named profile, overridden key by key."""

    profile: Literal["miniature", "base", "paper"]
    """which CLIP, SAM and vision encoder: miniature | base | paper"""
    clip: ModelSpec | None
    """keys in place of the profile's: {name: ViT-B-16-quickgelu, pretrained: openai}; beside a
    profile of real models {pretrained: weights/ViT-B-16.pt} alone; a file that does not tell how it
    was trained: {pretrained: weights/clip.safetensors, quick_gelu: true}"""
    sam: ModelSpec | None
    """{name: vit_b, checkpoint: weights/sam_vit_b_01ec64.pth}"""
    vision: ModelSpec | None
    """{name: vit_base_patch14_dinov2.lvd142m}"""
    projection: Literal["maskclip", "sclip", "naclip"]
    """maskclip | sclip | naclip: how CLIP's last block gives patch features"""
    template: Annotated[str, Field(pattern=r"\{\}")]
    """the text that CLIP reads, {} stands for the class name"""


class RuntimeParams(Section):
    """How the frozen encoders are run."""

    precision: Literal["auto", "float32", "bfloat16", "float16"]
    """of the encoders: auto | float32 | bfloat16 | float16; auto: float32 on a processor, on CUDA
    bfloat16, or float16 where the device lacks it"""
    batch_memory_gb: Literal["auto"] | Annotated[float, Field(gt=0.0)]
    """memory for what goes through an encoder at once on CUDA; auto: a quarter of what is free;
    halved where it proves too much"""
