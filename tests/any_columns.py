"""A task for tests of readers."""

from hydratune.data.columns import Column


class AnyColumns:
    """A task that takes whatever it is given."""

    inputs = ()

    def __init__(self, *names):
        self.columns = {name: Column("any") for name in names}

    def bad_rows(self, splits, label_names):  # noqa: ARG002
        return iter(())

    def name_labels(self, splits, names):
        return splits, names

    def keeps_order(self):
        return True
