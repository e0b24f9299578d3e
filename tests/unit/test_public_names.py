import importlib
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "dotted",
    [
        "fmbseg.load_params",
        "fmbseg.Segmenter",
        "fmbseg.Vocabulary",
        "fmbseg.read_classes",
        "fmbseg.align.loss.prototype_supcon_loss",
        "fmbseg.align.head.AlignmentHead",
        "fmbseg.evaluate.metrics.ConfusionMatrix",
        "fmbseg.models.build.build_clip",
        "fmbseg.models.build.build_sam",
        "fmbseg.models.build.build_vision",
        "fmbseg.pseudo.automatic.AutomaticOptions",
        "fmbseg.pseudo.automatic.automatic_masks",
        "fmbseg.datasets.load",
        "fmbseg.miniature.world.generate",
    ],
)
def test_a_public_name_is_where_the_design_puts_it(dotted: str):
    module, name = dotted.rsplit(".", 1)
    assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("module", ["fmbseg", "fmbseg.steps.plan"])
def test_importing_the_package_or_the_plan_does_not_import_torch(module: str):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_options_of_automatic_masks_are_given_by_name_or_by_place():
    from fmbseg.pseudo.automatic import AutomaticOptions

    names = list(AutomaticOptions.model_fields)
    values = [16, 0.8, 0.9, 1.0, 0.7, 0.001, 0.95]
    placed = AutomaticOptions(*values, batch_points=32)
    assert placed == AutomaticOptions(**dict(zip(names, values, strict=True)))
