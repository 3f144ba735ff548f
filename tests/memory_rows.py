"""A dataset of rows in memory, and what the labels of its rows mean to a model."""

from dataclasses import dataclass

from datasets import Dataset, DatasetDict

from hydratune.data.raw import RawDataset
from hydratune.data.source import Source
from hydratune.tasks.labels import collect_labels
from hydratune.tasks.sequence_classification import SequenceClassification

TASK = SequenceClassification()


def meanings(source, task=TASK):
    """The name of the label of each training row under the head's ids, by the text of the row."""
    splits = source.load(task)
    labels = collect_labels(splits, source.label_names)
    rows = splits["train"]
    return {t: labels.names[i] for t, i in zip(rows["text"], labels.encode(rows["label"]), strict=True)}


@dataclass(kw_only=True)
class Rows(Source):
    """Rows in memory, the same for training and validation."""

    rows: list

    def read(self):
        return RawDataset(DatasetDict(train=Dataset.from_list(self.rows), validation=Dataset.from_list(self.rows)))
