"""From raw competition files to arrays, and from predictions to metrics and a submission."""
