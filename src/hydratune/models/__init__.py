"""The network that a run starts from: what a config names under `model`."""

from hydratune.models.encoder_decoder import EncoderDecoder
from hydratune.models.pretrained import Pretrained
from hydratune.models.scratch import FromConfig

__all__ = ["EncoderDecoder", "FromConfig", "Pretrained"]
