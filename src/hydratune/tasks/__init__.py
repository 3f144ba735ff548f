"""Tasks that a config can select under `task`, one file each; see docs/adding_a_task.md."""

from typing import TYPE_CHECKING

from hydratune.utils.lazy import lazy_exports

if TYPE_CHECKING:
    from hydratune.tasks.base import Task
    from hydratune.tasks.causal_lm import CausalLm
    from hydratune.tasks.image_classification import ImageClassification
    from hydratune.tasks.masked_lm import MaskedLm
    from hydratune.tasks.metrics.metric import Metric
    from hydratune.tasks.multi_label_classification import MultiLabelClassification
    from hydratune.tasks.multiple_choice import MultipleChoice
    from hydratune.tasks.question_answering import QuestionAnswering
    from hydratune.tasks.regression import Regression
    from hydratune.tasks.seq2seq import Seq2Seq
    from hydratune.tasks.sequence_classification import SequenceClassification
    from hydratune.tasks.supervised_fine_tuning import SupervisedFineTuning
    from hydratune.tasks.token_classification import TokenClassification
else:
    __getattr__ = lazy_exports(__name__, __file__)

__all__ = [
    "CausalLm",
    "ImageClassification",
    "MaskedLm",
    "Metric",
    "MultiLabelClassification",
    "MultipleChoice",
    "QuestionAnswering",
    "Regression",
    "Seq2Seq",
    "SequenceClassification",
    "SupervisedFineTuning",
    "Task",
    "TokenClassification",
]
