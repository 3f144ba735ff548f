"""Sections of a model card in words: intended use, limitations, and the conditions of the metrics."""

from __future__ import annotations

from collections.abc import Iterator

from hydratune.training.card_inputs import ModelCardInputs, private
from hydratune.training.licenses import license_of
from hydratune.utils.escaping import escape_markdown, markdown_code

_LISTED = 20  # labels
_GENERATIVE = ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM")


def intended_use(card: ModelCardInputs) -> str:
    """Return the intended use of the model: its task, its labels, and data like its training data."""
    choices = card.job.choices
    task = escape_markdown(str(choices.get("task", "")).replace("_", " "))
    data = escape_markdown(str(choices.get("dataset", "")))
    text = f"{task[:1].upper()}{task[1:]} on inputs like the training rows ({data}), of the same language and domain."
    if card.labels:
        names = ", ".join(escape_markdown(name) for name in card.labels[:_LISTED])
        more = ", ..." if len(card.labels) > _LISTED else ""
        text += f" It has {len(card.labels)} labels: {names}{more}."
    return text


def limitations(card: ModelCardInputs) -> Iterator[str]:
    """Yield limits that follow from the training and its evaluation."""
    if card.params.get("max_length", "null") != "null":
        yield f"Inputs have at most {card.params['max_length']} tokens. Longer ones are truncated or split."
    if card.labels:
        yield "The model assigns a label of its training rows to any input, also to one that fits none of them."
    if card.auto_model in _GENERATIVE:
        yield "Generated text can be wrong, and repeats what the training rows and the base model have learned from."
    yield f"It was trained with one seed, {card.cfg.seed}. Another seed gives other scores."
    if "test" not in card.columns():
        yield "There were no test rows. The validation rows may also have decided about settings."
    yield "Other domains, languages, and groups of people were not evaluated, and the model was not tested for bias."


def measured_on(card: ModelCardInputs) -> Iterator[str]:
    """Yield for each split the rows and the conditions of its metrics."""
    objective = escape_markdown(str(card.cfg.objective).removeprefix("eval_"))
    selects = card.training_args.get("load_best_model_at_end")
    for split in card.columns():
        rows = f"{split}: {card.rows.get(split, 'rows')}"
        if split == "validation":
            yield rows + (
                f"; they also selected the checkpoint, by {objective}" if selects else "; the last checkpoint"
            )
        else:
            yield f"{rows}, evaluated once, after training"
    device = card.params.get("device", "unknown device")
    yield f"precision and device of the evaluation: {card.precision['eval_precision']}, {device}"
    if card.baseline:
        yield f"baseline: always {escape_markdown(card.baseline.description)}"


def license_note(card: ModelCardInputs) -> str:
    """Return the licenses of the base models, as far as they are stated."""
    model = card.cfg.model
    names = [str(model[key]) for key in ("pretrained_model_name_or_path", "encoder", "decoder") if model.get(key)]
    lines = []
    for name in dict.fromkeys(names):
        stated = license_of(name, model.get("revision"))
        lines.append(f"- base model {markdown_code(private(name))}: {escape_markdown(stated or 'not stated')}")
    lines.append("- training data: not recorded")
    return "\n".join(lines) + "\n\nThis model is subject to both. No other license is stated here."
