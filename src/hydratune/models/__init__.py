"""Models that a config can name under `model`, and adapters that it can name under `adapter`."""

from typing import TYPE_CHECKING

from hydratune.utils.lazy import lazy_exports

if TYPE_CHECKING:
    from hydratune.models.adapters import Adapter, NoAdapter
    from hydratune.models.encoder_decoder import EncoderDecoder
    from hydratune.models.from_config import FromConfig
    from hydratune.models.pretrained import Pretrained
else:
    __getattr__ = lazy_exports(__name__, __file__)

__all__ = ["Adapter", "EncoderDecoder", "FromConfig", "NoAdapter", "Pretrained"]
