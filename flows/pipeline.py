"""The flow `fmbseg`: the paper's figure as cached tasks. `make run` is `python -m flows.run`."""

from functools import partial

from prefect import flow, runtime

from flows.finished import remember
from flows.orphans import alive
from flows.own_parameters import Began, begin, keep, require_own, say_changes, shown_values
from flows.parameters import NO_CHANGES, Parameters
from flows.runner import start, task_runner, wait
from fmbseg.steps.plan import Stages
from fmbseg.steps.workspace import Workspace
from tasks.progress import run_log, say_time_left
from tasks.summary import summarise
from tasks.task_logging import reason_first
from tasks.tracking import connect_early, fetch_champion, store_file, system_metrics, track
from tasks.versioning import version


@flow(name="fmbseg")
def fmbseg(root: str = ".", parameters: Parameters = NO_CHANGES) -> str:
    """Images and class names in; masks, a segmenter, figures and a report out.

    Args:
        root: the workspace: `.`, or a folder below runs/ with a params.yaml.
        parameters: what this run takes in place of params.yaml's values.
    """
    with alive(), reason_first():
        if runtime.deployment.id is not None:
            require_own(root)
        began = begin(root, parameters, shown_values())
        say_changes(began)
        with system_metrics(root):
            return _run_stages(root, began)


def _run_stages(root: str, began: Began) -> str:
    place = began.place
    connect_early(place)
    with task_runner(began.params.runner) as runner:
        look, begin_unit = partial(Workspace.open, place), partial(start, runner, place)
        stages = Stages(look, begin_unit, wait, run_log().info)
        stages.run_through("download")  # images and class names in place
        say_time_left(place)
        stages.run_through("pseudo_masks")  # stage 1: CLIP says what, SAM says where
        stages.run_through("subsample")
        fetch_champion(place)
        stages.run_through("train")  # stage 2: DINOv2's patches learn CLIP's text space
        stages.run_through("evaluate")
        stages.run_through("report")
        stages.run_through("export")  # labels for other tools, where they are asked for
    keep(root, began)
    version(place, began.params_sha)
    summarise(place, track(place))
    if place == root or began.keep:
        remember(root, store_file(root))
    return str(Workspace.open(place).report / "index.html")
