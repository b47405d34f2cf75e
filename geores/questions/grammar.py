"""Questions in words: phrasing, reading, and what an everyday question may mean."""

from geores.questions.grammar_wordings import (
    MAX_LENGTH,
    TEMPLATES,
    Style,
    Template,
    Wording,
    parse,
    phrase,
    read,
    wordings,
)
from geores.questions.suggest import Suggestion, suggest, what_is_known

__all__ = [
    'MAX_LENGTH',
    'TEMPLATES',
    'Style',
    'Suggestion',
    'Template',
    'Wording',
    'parse',
    'phrase',
    'read',
    'suggest',
    'what_is_known',
    'wordings',
]
