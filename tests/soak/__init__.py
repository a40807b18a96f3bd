"""`make soak`: hostile requests against the real stack, for as long as one likes."""
