"""Models that say what a text is: heads on an encoder's vectors, trained here.

`train` makes a head's numbers from labelled texts; `export` is the family that an export makes a bundle with. **Read
first**: `validation`, which decides what is believed of a head.
"""
