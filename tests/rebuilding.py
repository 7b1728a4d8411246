"""How a served folder's recipe becomes an extractor again, in another process."""

import time

from tiny import TinyModel
from tubelet.extraction.extractor import Extractor
from tubelet.extraction.recipe import extractor_of


def rebuild(recipe):
    return extractor_of(recipe, model=TinyModel(), device="cpu")


def rebuild_other(recipe):
    """A network that is not the run's: the rows would not be comparable."""
    return Extractor(TinyModel(seed=1), name="tiny", device="cpu")


def rebuild_endless(recipe):
    """Never comes back, as a decoder may on a hostile file."""
    while True:
        time.sleep(60)
