"""`make simulate`: how a fleet of hot paths would do, on paper, and how far from the real stack that is."""
