"""The Prefect tasks `download`, `pseudo_masks`, ...: one a step, made from its record."""

from functools import partial

from prefect import Task, task
from prefect.tasks import exponential_backoff

from fmbseg.steps.plan import PLAN, unit_named
from fmbseg.steps.step import Step
from fmbseg.steps.workspace import Workspace
from tasks.caching import RESULTS, UnitPolicy, is_io_trouble
from tasks.task_logging import run_unit
from tasks.tracking import training_log


def _task_of(step: Step) -> Task[[str, str], str]:
    """The task of (root: the workspace or a file of its parameters, unit: name within the step).

    It returns the path of the unit's folder, or of the file in it that people open first.
    """

    @task(
        name=step.name,
        description=f"Make a unit of the step `{step.name}`; returns its path.",
        task_run_name=f"{step.name} {{unit}}" if step.mapped else step.name,
        cache_policy=UnitPolicy(step=step.name),
        persist_result=True,
        result_storage=RESULTS,
        retries=2,
        retry_delay_seconds=exponential_backoff(backoff_factor=2),
        retry_condition_fn=is_io_trouble,
    )
    def make(root: str, unit: str) -> str:
        one = unit_named(Workspace.open(root), step.name, unit)
        if step.name == "train":
            with training_log(root) as log:
                run_unit(one, partial(one.run, on_points=log))
        else:
            run_unit(one, one.run)
        return str(one.folder / step.file)

    return make


TASKS: dict[str, Task[[str, str], str]] = {step.name: _task_of(step) for step in PLAN}
"""Map each step's name to its task."""
