"""The flow `fmbseg`: the paper's figure as cached tasks. `make run` is `python -m flows.run`."""

from typing import Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from tasks.download import download
from tasks.evaluate import evaluate, trained, training_free
from tasks.pseudo_masks import finish, pseudo_masks, shard_names
from tasks.report import report
from tasks.subsample import subsample
from tasks.tracking import track
from tasks.train import train

RUNNER = ThreadPoolTaskRunner[Any](max_workers=2)


@flow(name="fmbseg", task_runner=RUNNER, log_prints=False)  # type: ignore[arg-type]
def fmbseg(root: str = ".") -> str:
    """Images and class names in; masks, a segmenter, figures and a report out."""
    download(root)
    masks = [pseudo_masks.submit(root, shard) for shard in shard_names(root)]
    baselines = [evaluate.submit(root, method) for method in training_free(root)]
    for future in masks:
        future.result()
    finish(root)
    subsample(root)
    train(root)
    scores = [evaluate.submit(root, method) for method in trained(root)]
    for future in [*baselines, *scores]:
        future.result()
    page = report(root)
    track(root)
    return page
