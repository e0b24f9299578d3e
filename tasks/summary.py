"""Task `summarise`: the run's figures as artifacts in Prefect's pages."""

from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from fmbseg.steps import figures, pseudo_masks
from fmbseg.steps.workspace import Workspace


@task(name="summarise", cache_policy=NO_CACHE)
def summarise(root: str, mlflow_run: str) -> None:
    """The mIoU table, as text and as a table, and a link to the report.

    Args:
        root: the workspace.
        mlflow_run: id of the MLflow run that holds the same figures.
    """
    workspace = Workspace.open(root)
    found = figures.of_methods(workspace)
    rows = [
        {
            "method": one["method"], "data set": one["data_set"], "split": one["split"],
            "mIoU": round(one["miou"], 4), "pixel accuracy": round(one["pixel_accuracy"], 4),
            "images": one["images"], "protocol": one["protocol_hash"], "seed": one["seed"],
        }
        for one in found.values()
    ]  # fmt: skip
    bad = pseudo_masks.quarantined(workspace)
    text = [figures.markdown_table(workspace), "", f"MLflow run `{mlflow_run}`.", ""]
    text += [f"{len(bad)} images quarantined.", *(f"- `{b['image']}`: {b['reason']}" for b in bad)]
    create_markdown_artifact("\n".join(text), key="figures", description="mIoU by method")
    create_table_artifact(rows, key="miou", description="mIoU by method")
    create_link_artifact(
        (workspace.report / "index.html").resolve().as_uri(),
        link_text="report",
        key="report",
        description="masks, figures and pictures on one page",
    )
