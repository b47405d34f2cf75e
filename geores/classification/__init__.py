"""Results of classifying a scene: maps of classes, how sure they are, and how much there is of each."""
