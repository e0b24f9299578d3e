"""CLIP's text tower by open_clip: class names in, features of the joint space out."""

from collections.abc import Sequence

import open_clip
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from fmbseg.models.clip_config import Tokenizer
from fmbseg.models.precision import Precision, encoding


class OpenClipText:
    """The half of a frozen open_clip model that reads.

    Attributes:
        model: the open_clip model, in `eval` mode, without gradients.
        device: where it is.
        precision: that it computes in; its answers are float32.
    """

    def __init__(
        self,
        model: open_clip.CLIP | open_clip.CustomTextCLIP,
        tokenizer: Tokenizer,
        device: torch.device,
        template: str,
        precision: Precision,
    ) -> None:
        """Take a frozen model that is on the device.

        Raises:
            ValueError: the template has no `{}`, or several.
        """
        require_templates([template])
        self.model, self.device, self.precision = model, device, precision
        self._tokenizer, self._template = tokenizer, template

    @property
    def temperature(self) -> float:
        """Of its training: a cosine higher by this makes a text e times as likely."""
        return float(1 / self.model.logit_scale.exp())

    def encode_text(
        self, names: Sequence[str], templates: Sequence[str] | None = None
    ) -> Float[Tensor, "category dim"]:
        """Unit-length text features, one per class name, float32 on the CPU.

        Args:
            names: class names.
            templates: in place of the model's own; each with one `{}`. Of several, the
                unit-length features are averaged and scaled to unit length again.

        Raises:
            ValueError: no names, no templates, or a template without its one `{}`.
        """
        if not names:
            raise ValueError("names: found none, wanted at least one class name")
        chosen = [self._template] if templates is None else list(templates)
        require_templates(chosen)
        tokens = self._tokenizer([template.format(name) for template in chosen for name in names])
        with encoding(self.device, self.precision):
            parts = [
                normalize(self.model.encode_text(part.to(self.device)).float(), dim=1)
                for part in tokens.split(256)
            ]
        features = torch.cat(parts).cpu()
        if len(chosen) == 1:
            return features
        return normalize(features.unflatten(0, (len(chosen), len(names))).mean(dim=0), dim=1)


def require_templates(templates: Sequence[str]) -> None:
    """Raise ValueError unless there are templates, each with one `{}`."""
    if not templates:
        raise ValueError("templates: found none, wanted at least one")
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"template: found {template!r}, wanted one {{}} for the class name")
