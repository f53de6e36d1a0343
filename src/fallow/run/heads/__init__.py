"""What a kind of data asks of a model: its head, its loss, and how it is validated. One file a head."""

from fallow.data.settings import ClassificationData, Data
from fallow.data.task import task_of
from fallow.run.heads.head import Head
from fallow.run.heads.label import LabelHead
from fallow.run.heads.vocabulary import VocabularyHead

__all__ = ["Head", "LabelHead", "VocabularyHead", "head_of"]


def head_of(data: Data) -> Head:
    """The head that a model needs for this data."""
    if isinstance(data, ClassificationData):
        return LabelHead(task_of(data.task))
    return VocabularyHead()
