"""The classes that a config may name."""


class Configurable:
    """Marks a class that a `_target_` may name; its subclasses are marked too.

    A config is data from anyone: its values reach the arguments of the class, so the class must not run code, open
    files for writing, or connect to servers by what its arguments say, except where a check of the config covers it.
    """
