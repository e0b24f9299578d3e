"""The flow `fmbseg`: the paper's figure as cached tasks. `make run` is `python -m flows.run`."""

from prefect import flow, runtime

from flows.orphans import alive
from flows.own_parameters import Began, begin, keep, require_own, say_changes, shown_values
from flows.parameters import NO_CHANGES, Parameters
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
        root: the workspace: `.`, or a folder below runs/ with a params.yaml.
        parameters: what this run takes in place of params.yaml's values.
    """
    with alive(), reason_first():
        if runtime.deployment.id is not None:
            require_own(root)
        began = begin(root, parameters, shown_values())
        say_changes(began)
        with system_metrics(root):
            return _stages(root, began)


def _stages(root: str, began: Began) -> str:
    place = began.place
    connect_early(place)
    with mapper(began.params.runner) as each:
        each.wait(each.submit(download, root=place, data_set=name) for name in data_sets(place))
        say_time_left(place)
        masks = [each.submit(pseudo_masks, root=place, shard=shard) for shard in shards(place)]
        scores = [each.submit(evaluate, root=place, unit=name) for name in training_free(place)]
        each.wait(masks)
        finish(place)
        subsample(place)
        fetch_champion(place)
        train(place)
        scores += [each.submit(evaluate, root=place, unit=name) for name in trained(place)]
        each.wait(scores)
    page = report(place)
    keep(root, began)
    version(place, began.params_sha)
    summarise(place, track(place))
    return page
