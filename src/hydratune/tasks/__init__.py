"""What can be learned: one file a task."""

from hydratune.tasks.sequence_classification import SequenceClassification

__all__ = ["SequenceClassification"]
