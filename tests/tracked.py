"""The MLflow runs of a store."""

from hydratune.tracking.client import connect


def runs(store):
    """All MLflow runs of a store."""
    client = connect(store)
    return client.search_runs([e.experiment_id for e in client.search_experiments()])
