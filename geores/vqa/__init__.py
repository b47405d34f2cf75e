"""Visual question answering: answers as classes, questions as tokens, and the model that joins them."""
