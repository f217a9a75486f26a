"""From raw competition files to arrays, and from predictions to a submission."""
