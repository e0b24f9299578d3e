"""SAM by segment-anything: one image embedding, many prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor
from torch.nn.functional import interpolate, pad

from fmbseg.models.batches import Batches, BudgetGb, meter_of
from fmbseg.models.device import moved, pinned
from fmbseg.models.images import require_rgb
from fmbseg.models.precision import Precision, encoding
from fmbseg.models.protocols import SamAttention, SamEmbedding, SamPrediction, Wanted
from fmbseg.models.sam_attention import encode_attending
from fmbseg.models.sam_decoder import ImageSide, PromptDecoder, all_wanted
from fmbseg.models.sam_regions import RegionDecoder
from fmbseg.types import Image


@dataclass(frozen=True)
class _Encoded:
    """What `SegmentAnything` keeps of an image.

    Attributes:
        side: what the decoder needs of the image, on the model's device.
        input_hw: size after the longest side was scaled, px.
    """

    side: ImageSide
    input_hw: tuple[int, int]


@dataclass(frozen=True)
class _Prepared:
    """An image as the encoder wants it.

    Attributes:
        pixels: RGB, 0 to 255, its longest side scaled to the encoder's size; on the CPU.
        image_hw: size of the original image, px.
    """

    pixels: UInt8[Tensor, "3 input_height input_width"]
    image_hw: tuple[int, int]


class SegmentAnything:
    """A frozen `segment_anything` model behind `SamModel`.

    Attributes:
        model: the SAM, in `eval` mode, without gradients.
        grid_side: patches along one side of its encoder.
        precision: that its encoder computes in; the prompt decoder always does in float32, since
            masks are thresholds of its logits.
        images_at_once: see `TakesSeveral`.
    """

    def __init__(
        self,
        model: Sam,
        device: torch.device,
        *,
        precision: Precision = "float32",
        batch_memory_gb: BudgetGb = "auto",
    ) -> None:
        """Freeze the model and move it to the device."""
        self.model = model.to(device).eval().requires_grad_(False)
        self.device, self.precision = device, precision
        self._batches = Batches("SAM's encoder", meter_of(device), batch_memory_gb)
        self.images_at_once = self._batches.images
        self.grid_side: int = model.prompt_encoder.image_embedding_size[0]
        self._resize = ResizeLongestSide(model.image_encoder.img_size)
        with torch.inference_mode():
            self._decoder = PromptDecoder(self.model.mask_decoder)
            self._regions = RegionDecoder(self.model)
            self._dense_position = model.prompt_encoder.get_dense_pe()

    def embed(self, image: Image) -> SamEmbedding:
        """Run the image encoder once.

        The longest side is scaled to the encoder's size, the rest padded to a square, as
        `SamPredictor` does.

        Raises:
            ValueError: not an RGB image.
        """
        return self.encode_prepared([self.prepare(image)])[0]

    def prepare(self, image: Image) -> _Prepared:
        """The image as `encode_prepared` wants it, scaled, on the CPU.

        Raises:
            ValueError: not an RGB image.
        """
        require_rgb(image)
        scaled = self._resize.apply_image(np.ascontiguousarray(image))
        pixels = torch.from_numpy(scaled).permute(2, 0, 1)
        return _Prepared(pinned(pixels, self.device), (image.shape[0], image.shape[1]))

    def encode_prepared(self, prepared: Sequence[_Prepared]) -> list[SamEmbedding]:
        """`embed` of several images in order; the encoder takes them together."""
        elements = 3 * self.model.image_encoder.img_size**2
        return [
            self._embedding(one, its_own)
            for some, features in self._batches.over(prepared, self._features, elements)
            for one, its_own in zip(some, features.split(1), strict=True)
        ]

    def _embedding(
        self, prepared: _Prepared, features: Float[Tensor, "1 channel rows cols"]
    ) -> SamEmbedding:
        no_mask = self.model.prompt_encoder.no_mask_embed.weight[0]
        with torch.inference_mode():
            side = self._decoder.image_side(features, self._dense_position, no_mask)
        input_hw = (prepared.pixels.shape[1], prepared.pixels.shape[2])
        return SamEmbedding(prepared.image_hw, _Encoded(side, input_hw))

    def _features(self, some: Sequence[_Prepared]) -> Float[Tensor, "image channel rows cols"]:
        with encoding(self.device, self.precision):
            each = [moved(one.pixels, self.device).float()[None] for one in some]
            pixels = torch.cat([self.model.preprocess(one) for one in each])
            features: Tensor = self.model.image_encoder(pixels)
            return features.float()

    def embed_attending(self, image: Image) -> tuple[SamEmbedding, SamAttention]:
        """`embed`, and the attention of the encoder's last block, of one pass.

        Raises:
            ValueError: not an RGB image, or an encoder whose last block attends within windows.
        """
        prepared = self.prepare(image)
        patch_px = self.model.image_encoder.img_size // self.grid_side
        with encoding(self.device, self.precision):
            pixels = moved(prepared.pixels, self.device).float()[None]
            features, attention = encode_attending(
                self.model.image_encoder, self.model.preprocess(pixels),
                (prepared.pixels.shape[1] // patch_px, prepared.pixels.shape[2] // patch_px),
            )  # fmt: skip
        return self._embedding(prepared, features), attention

    def predict_points(
        self,
        embedding: SamEmbedding,
        points_xy_px: Float[np.ndarray, "prompt point 2"],
        wanted: Wanted | None = None,
    ) -> SamPrediction:
        """Three masks for each set of joint positive points; see `PromptDecoder`.

        Args:
            embedding: of the image.
            points_xy_px: x, y in px of the original image.
            wanted: which masks' logits are worth their making; None for all.

        Returns:
            Logits at a quarter of the encoder's size, padding included (`upscale` drops it), and
            SAM's quality estimates, on the model's device.

        Raises:
            ValueError: the points have another shape.
        """
        if points_xy_px.ndim != 3 or points_xy_px.shape[2] != 2 or 0 in points_xy_px.shape:
            raise ValueError(
                f"points_xy_px: found shape {points_xy_px.shape}, wanted [prompt point 2]"
            )
        scaled = self._resize.apply_coords(points_xy_px, embedding.image_hw)
        points = torch.from_numpy(scaled).float().to(self.device, non_blocking=True)
        with torch.no_grad():  # the caller may change the answer, which is not copied for it
            sparse = self._positive(points)
            return self._decoder.decode(embedding.encoded.side, sparse, wanted or all_wanted)

    def predict_regions(
        self,
        embedding: SamEmbedding,
        points_xy_px: Float[np.ndarray, "prompt 2"],
        corners_px: Float[np.ndarray, "prompt 4"],
        masks: Float[Tensor, "prompt low_height low_width"],
        wanted: Wanted | None = None,
    ) -> SamPrediction:
        """One mask for each region that is told by a point, a box and a mask; see `RegionDecoder`.

        Args:
            embedding: of the image.
            points_xy_px: a place inside, x and y in px of the original image.
            corners_px: left, top, right, bottom, in px of the original image.
            masks: logits as `downscale` lays them out, for the prompt encoder; left out where this
                SAM's prompt encoder has never learned masks.
            wanted: which masks' logits are worth their making; None for all.

        Returns:
            Logits as `predict_points` gives them, and a single quality estimate a prompt.
        """
        points = self._resize.apply_coords(points_xy_px[:, None], embedding.image_hw)
        boxes = self._resize.apply_boxes(corners_px, embedding.image_hw)
        with torch.inference_mode():
            return self._regions.decode(
                embedding.encoded.side,
                moved(torch.from_numpy(points).float(), self.device),
                moved(torch.from_numpy(boxes).float(), self.device),
                moved(masks, self.device),
                wanted or all_wanted,
            )

    def downscale(
        self, embedding: SamEmbedding, maps: Float[Tensor, "map height width"]
    ) -> Float[Tensor, "map low_height low_width"]:
        """Maps of the original image's size as mask prompts lie: `upscale` backwards.

        The longest side is scaled to the prompt encoder's size for masks, the rest is 0.
        """
        low_px = self.model.prompt_encoder.mask_input_size[0]
        height, width = self._resize.get_preprocess_shape(*embedding.image_hw, low_px)
        small = _resized(maps.to(self.device, non_blocking=True), (height, width))
        return pad(small, (0, low_px - width, 0, low_px - height))

    def _positive(
        self, points_px: Float[Tensor, "prompt point 2"]
    ) -> Float[Tensor, "prompt point+1 channel"]:
        """The prompt encoder's answer for positive points and no box, to the bit.

        It finds points of each kind by masks, for each of which it waits for an accelerator.
        """
        encoder = self.model.prompt_encoder
        padded = pad(points_px + 0.5, (0, 0, 0, 1))  # where a box would be, as it does
        places = encoder.pe_layer.forward_with_coords(padded, encoder.input_image_size)
        none = encoder.not_a_point_embed.weight.expand(len(places), 1, -1)
        return torch.cat([places[:, :-1] + encoder.point_embeddings[1].weight, none], dim=1)

    def upscale(
        self, embedding: SamEmbedding, logits: Float[Tensor, "mask low_height low_width"]
    ) -> Float[Tensor, "mask height width"]:
        """Low-resolution logits to logits at the original image's size.

        As `Sam.postprocess_masks`, without its second step where that changes nothing: an image
        that already has the encoder's size. A mask takes encoder size² + height · width floats
        meanwhile: pass the survivors of a filter, in batches.
        """
        height, width = embedding.encoded.input_hw
        side_px = self.model.image_encoder.img_size
        full = _resized(logits.to(self.device), (side_px, side_px))[:, :height, :width]
        return full if full.shape[1:] == embedding.image_hw else _resized(full, embedding.image_hw)


def _resized(
    logits: Float[Tensor, "mask _height _width"], size_hw: tuple[int, int]
) -> Float[Tensor, "mask new_height new_width"]:
    return interpolate(logits[None], size_hw, mode="bilinear", align_corners=False)[0]
