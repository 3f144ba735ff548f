"""Loading, splitting and tokenising: what a config names under `dataset`."""

from hydratune.data.digits import Digits
from hydratune.data.hub import HubDataset
from hydratune.data.local import LocalFiles
from hydratune.data.mixture import Mixture
from hydratune.data.saved import SavedDataset
from hydratune.data.wordnet import WordnetSupersense

__all__ = ["Digits", "HubDataset", "LocalFiles", "Mixture", "SavedDataset", "WordnetSupersense"]
