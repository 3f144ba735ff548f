"""Base class of all our classes that a config may name."""


class Configurable:
    """Marker of classes that a `_target_` may name; it applies to their subclasses, too.

    A config is data from anyone, and its values become arguments of the class. So the arguments must not make the class
    run code, open files for writing, or connect to servers. Arguments that a check of the config covers are exempt.
    """
