"""The card of a registered model's version: a hub's, with MLflow's way to load it."""

import json

from fmbseg.align.settings import DESCRIPTION
from fmbseg.hub.card import card_text
from fmbseg.models.settings import ModelsParams
from fmbseg.steps.published import card_facts
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_json

_LONGEST = 5000
"""MLflow's descriptions of versions hold no more."""
_USE = """\
## Use

```python
import mlflow, pandas

model = mlflow.pyfunc.load_model({uri})
pictures = pandas.DataFrame({{"image": [open("photo.jpg", "rb").read()]}})
asked = {{"classes": ["cat", "grass"], "format": "labels"}}  # or "png" (the default), "rle"
labels = model.predict(pictures, params=asked)  # of each: [height][width], 255 is none
```

It wants the package `fmbseg` and the frozen models that it was trained with. `predict` opens no \
file: pictures come as bytes, or as base64."""


def model_card(workspace: Workspace, name: str) -> str:
    """Markdown of a workspace's trained model.

    Args:
        workspace: whose models/train.
        name: of the registered model.
    """
    models = read_json(workspace.train / DESCRIPTION)["models"]
    facts = card_facts(workspace.train, name, ModelsParams.model_validate(models), None)
    return card_text(facts, _USE.format(uri=json.dumps(f"models:/{name}@champion")))


def cut_card(text: str) -> str:
    """As many whole lines as a description holds; the file among the model's files has all."""
    if len(text) <= _LONGEST:
        return text
    more = "\n\nThe rest is in MODEL_CARD.md among the model's files."
    return text[: _LONGEST - len(more)].rpartition("\n")[0] + more
