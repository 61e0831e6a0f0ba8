"""Looking inside networks: what excites their units, what they look at in an image, and whether maps tell of it."""
