"""Questions about imagery: their forms, their wordings, and where their answers come from."""

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
from geores.questions.grammar import parse, phrase, suggest

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
