"""Task `summarise`: the run's figures as artifacts in Prefect's pages."""

from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from fmbseg.evaluate.metrics import METRICS
from fmbseg.steps import figures
from fmbseg.steps.shards import quarantined
from fmbseg.steps.workspace import Workspace
from fmbseg.store.names import markdown_text, printable
from tasks.tracking import run_links
from tasks.tracking.facts import RunLinks


@task(name="summarise", cache_policy=NO_CACHE)
def summarise(root: str, mlflow_run: str) -> None:
    """The mIoU table, as text and as a table, and a link to the report.

    Args:
        root: the workspace.
        mlflow_run: id of the MLflow run that holds the same figures.
    """
    workspace, links = Workspace.open(root), run_links(root, mlflow_run)
    create_markdown_artifact(
        _text(workspace, mlflow_run, links), key="figures", description="mIoU by method"
    )
    create_table_artifact(_rows(workspace), key="miou", description="mIoU by method")
    if links.report is not None:
        first = f"Start `{links.first}` first. " if links.first else ""
        create_link_artifact(
            links.report,
            link_text=f"report (after `{links.first}`)" if links.first else "report",
            key="report",
            description=f"{first}Masks, figures and pictures on one page, kept by MLflow. On the "
            f"machine of the run: {markdown_text(_page(workspace))}",
        )


def _text(workspace: Workspace, run: str, links: RunLinks) -> str:
    """Figures, warnings and where to look, as Markdown."""
    bad, dead = quarantined(workspace), figures.never_found(workspace).words()
    lines = [figures.markdown_table(workspace), ""]
    lines += [f"**Warning:** {markdown_text(dead)}.", ""] if dead else []
    lines += [f"Pseudo masks: {figures.mask_words(figures.mask_counts(workspace))}.", ""]
    shown = f"`{run}`" if links.run is None else f"[`{run}`]({links.run})"
    first = f" (start `{links.first}` first)" if links.first else ""
    lines += [f"MLflow run {shown}{first}. Report: {markdown_text(_page(workspace))}", ""]
    lines.append(f"{len(bad)} image{'' if len(bad) == 1 else 's'} quarantined.")
    lines += [
        f"- image {markdown_text(one['image'])}: {markdown_text(one['reason'])}" for one in bad
    ]
    return "\n".join(lines)


def _rows(workspace: Workspace) -> list[dict[str, object]]:
    return [
        {
            "method": one["method"], "data set": printable(one["data_set"]), "split": one["split"],
            **{metric.title: round(one[metric.name], 4) for metric in METRICS},
            "images": one["images"], "protocol": one["protocol_hash"], "seed": one["seed"],
        }
        for one in figures.of_methods(workspace).values()
    ]  # fmt: skip


def _page(workspace: Workspace) -> str:
    return str((workspace.report / "index.html").resolve())
