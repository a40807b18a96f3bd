"""Models that say what a text is: heads on an encoder's vectors, trained here.

`train` makes a head's numbers from labelled texts; `export` makes a bundle of them. **Read first**: `validation`, which
decides what is believed of a head.
"""
