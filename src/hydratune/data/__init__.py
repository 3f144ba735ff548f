"""Loading, splitting and tokenising: what a config names under `dataset`."""

from hydratune.data.hub import HubDataset
from hydratune.data.local import LocalFiles
from hydratune.data.wordnet import WordnetSupersense

__all__ = ["HubDataset", "LocalFiles", "WordnetSupersense"]
