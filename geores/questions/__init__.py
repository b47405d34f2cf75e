"""Questions about imagery: their forms, their wordings, and the ground truth of their answers."""

from geores.questions.forms import (
    Area,
    Comparison,
    Count,
    Form,
    LabelPresence,
    LandCover,
    Objects,
    Presence,
    QuestionError,
    Relation,
    RuralUrban,
    form_from_dict,
)
from geores.questions.grammar import parse, phrase
from geores.questions.suggest import suggest

__all__ = [
    'Area',
    'Comparison',
    'Count',
    'Form',
    'LabelPresence',
    'LandCover',
    'Objects',
    'Presence',
    'QuestionError',
    'Relation',
    'RuralUrban',
    'form_from_dict',
    'parse',
    'phrase',
    'suggest',
]
