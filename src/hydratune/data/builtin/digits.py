"""Handwritten digits of scikit-learn: real images that work offline."""

from __future__ import annotations

from dataclasses import dataclass

from hydratune.data.raw import RawDataset
from hydratune.data.source import Source

HELD_OUT = {"validation": 200, "test": 300}  # of 1,797


@dataclass(kw_only=True)
class Digits(Source):
    """1,797 images of 8 x 8 pixels with labels (`image`, `label`), in the same stratified splits on every machine.

    Source: Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
    """

    def read(self) -> RawDataset:
        """Return the images as 8-bit grayscale, in stratified splits."""
        from datasets import ClassLabel, Dataset, DatasetDict, Features, Image
        from PIL import Image as Pillow
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = [Pillow.fromarray((pixels * 15.9375).astype("uint8")) for pixels in digits.images]  # 16 -> 255
        features = Features({"image": Image(), "label": ClassLabel(names=[str(i) for i in range(10)])})
        rest = Dataset.from_dict({"image": images, "label": digits.target}, features=features)
        splits = DatasetDict()
        for split, size in HELD_OUT.items():
            parts = rest.train_test_split(test_size=size, seed=0, stratify_by_column="label")
            rest, splits[split] = parts["train"], parts["test"]
        return RawDataset(DatasetDict(train=rest, **splits))
