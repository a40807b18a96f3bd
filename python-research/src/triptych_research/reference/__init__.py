"""The models in plain NumPy: slow, short, and meant to be read. What they compute is what the graphs are judged by."""
