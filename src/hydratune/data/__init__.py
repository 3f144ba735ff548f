"""Datasets that a config may name under `dataset`, with their loading, splitting, and caching."""

from typing import TYPE_CHECKING

from hydratune.utils.lazy import lazy_exports

if TYPE_CHECKING:
    from hydratune.data.builtin.digits import Digits
    from hydratune.data.builtin.wordnet.glosses import WordnetChat, WordnetGlosses, WordnetKinds
    from hydratune.data.builtin.wordnet.relations import (
        WordnetAncestors,
        WordnetChoices,
        WordnetPairs,
        WordnetSimilarity,
    )
    from hydratune.data.builtin.wordnet.spans import WordnetSpans, WordnetTags
    from hydratune.data.builtin.wordnet.supersense import WordnetStates, WordnetSupersense
    from hydratune.data.cross_validation import CrossValidation
    from hydratune.data.disk import SavedDataset
    from hydratune.data.hub import HubDataset
    from hydratune.data.local import LocalFiles
    from hydratune.data.mixture import Mixture
else:
    __getattr__ = lazy_exports(__name__, __file__)

__all__ = [
    "CrossValidation",
    "Digits",
    "HubDataset",
    "LocalFiles",
    "Mixture",
    "SavedDataset",
    "WordnetAncestors",
    "WordnetChat",
    "WordnetChoices",
    "WordnetGlosses",
    "WordnetKinds",
    "WordnetPairs",
    "WordnetSimilarity",
    "WordnetSpans",
    "WordnetStates",
    "WordnetSupersense",
    "WordnetTags",
]
