"""The units of the workspace in this folder in the flow's order, without Prefect, DVC or MLflow."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from fmbseg.steps import evaluate, pseudo_masks
from fmbseg.steps.units import Unit, units_of
from fmbseg.steps.workspace import Workspace


def main() -> None:
    """Run all units, mapped over as many threads as `runner.workers` says."""
    workspace = Workspace.open(".")
    with ThreadPoolExecutor(workspace.params.runner.workers) as threads:

        def submit(
            step: str, wanted: Callable[[Unit], bool] = lambda _: True
        ) -> list[Future[bool]]:
            units = [unit for unit in units_of(workspace, step) if wanted(unit)]
            return [threads.submit(unit.run) for unit in units]

        def trained(unit: Unit) -> bool:
            return evaluate.is_trained(unit.name)

        _wait(submit("download"))
        pseudo_masks.salvage(workspace)
        masks = submit("pseudo_masks")
        scores = submit("evaluate", lambda unit: not trained(unit))
        _wait(masks)
        pseudo_masks.finish(workspace)
        _wait(submit("subsample"))
        _wait(submit("train"))
        _wait([*scores, *submit("evaluate", trained)])
    for unit in units_of(workspace, "report"):
        unit.run()


def _wait(futures: list[Future[bool]]) -> None:
    for future in futures:
        future.result()


if __name__ == "__main__":
    main()
