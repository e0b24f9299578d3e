"""Public data sets and model weights, from their publishers onto this machine.

`fmbseg.fetch.weights` is imported by itself, since it brings the model packages along.
"""

from fmbseg.datasets.entry import Remote
from fmbseg.fetch.http import fetch
from fmbseg.fetch.install import Installed, install
from fmbseg.fetch.remote import DownloadError
