"""The flow `fmbseg`: the paper's figure as cached tasks. `make run` is `python -m flows.run`."""

from prefect import flow

from flows.orphans import alive
from flows.parameters import NO_CHANGES, Began, Parameters, prepare
from flows.runner import mapper
from tasks.download import data_sets, download
from tasks.evaluate import evaluate, trained, training_free
from tasks.lines import reason_first
from tasks.progress import say_time_left
from tasks.pseudo_masks import finish, pseudo_masks, shards
from tasks.report import report
from tasks.subsample import subsample
from tasks.summary import summarise
from tasks.tracking import connect_early, fetch_champion, system_metrics, track
from tasks.train import train
from tasks.versioning import version


@flow(name="fmbseg")
def fmbseg(root: str = ".", parameters: Parameters = NO_CHANGES) -> str:
    """Images and class names in; masks, a segmenter, figures and a report out.

    Args:
        root: the workspace, a folder with params.yaml.
        parameters: changes to params.yaml, written there before the run.
    """
    with alive(), reason_first(), system_metrics(root):
        return _stages(root, prepare(root, parameters))


def _stages(root: str, began: Began) -> str:
    connect_early(root)
    with mapper(began.params.runner) as each:
        each.wait(each.submit(download, root=root, data_set=name) for name in data_sets(root))
        say_time_left(root)
        masks = [each.submit(pseudo_masks, root=root, shard=shard) for shard in shards(root)]
        scores = [each.submit(evaluate, root=root, unit=name) for name in training_free(root)]
        each.wait(masks)
        finish(root)
        subsample(root)
        fetch_champion(root)
        train(root)
        scores += [each.submit(evaluate, root=root, unit=name) for name in trained(root)]
        each.wait(scores)
    page = report(root)
    version(root, began.params_sha)
    summarise(root, track(root))
    return page
