"""Stage 1's settings, as the library takes them."""

from fmbseg.pseudo.automatic import AutomaticOptions
from fmbseg.pseudo.stage1 import Stage1Options
from fmbseg.steps.foundation_models import models_of
from fmbseg.steps.workspace import Workspace


def stage1_options(workspace: Workspace) -> Stage1Options:
    """The section `pseudo_masks` of params.yaml as stage 1's options."""
    p = workspace.params.pseudo_masks
    points = p.points_per_side
    if points == "auto":
        points = models_of(workspace).sam.grid_side // 2
    automatic = AutomaticOptions(
        points_per_side=points,
        min_predicted_iou=p.min_predicted_iou,
        min_stability=p.min_stability,
        stability_offset=p.stability_offset,
        nms_iou=p.nms_iou,
        min_area_fraction=p.min_area_fraction,
        max_area_fraction=p.max_area_fraction,
    )
    return Stage1Options(
        presence_votes=p.presence_votes,
        prompt_points=p.prompt_points,
        automatic=automatic,
        points_together=p.points_together,
    )
